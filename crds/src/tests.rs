use std::path::Path;

use super::*;

/// `kubectl apply -f crds/` takes every YAML file of that folder: exactly the generated ones are there.
#[test]
fn manifests_in_the_folder_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = manifests().unwrap();
    if std::env::var_os("POSTERN_BLESS").is_some() {
        for (file, text) in &generated {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        }) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    let mut generated = generated;
    generated.sort();
    for ((file, text), (_, expected)) in found.iter().zip(&generated) {
        assert!(
            text == expected,
            "{file} is stale: run this test with POSTERN_BLESS=1"
        );
    }
    let names = |files: &[(String, String)]| {
        files
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&found), names(&generated));
}

/// What is read back from the YAML is what the types say: nothing is lost in writing it.
#[test]
fn manifests_say_what_the_definitions_say() {
    for ((_, yaml), definition) in manifests().unwrap().iter().zip(definitions().unwrap()) {
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(read, definition);
    }
}
