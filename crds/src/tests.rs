mod reference;

use std::path::Path;

use kube::CustomResourceExt;

use super::*;

/// `kubectl apply -f crds/` takes every YAML file of that folder: exactly the generated ones are there.
#[test]
fn manifests_in_the_folder_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = manifests().unwrap();
    if std::env::var_os("POSTERN_BLESS").is_some() {
        for (file, text) in &generated {
            std::fs::write(folder.join(file), text).unwrap();
            // Helm wants them inside the chart.
            std::fs::write(folder.join("../charts/postern/crds").join(file), text).unwrap();
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

/// One object a line, as the API server gets them too.
fn corpus(text: &str) -> Vec<serde_json::Value> {
    let objects = text.lines().filter(|line| line.starts_with('{'));
    objects
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What the checks for files find, with paths; Err where it cannot even be read.
fn findings(object: &serde_json::Value) -> Result<Vec<String>, String> {
    fn read<T: serde::de::DeserializeOwned>(object: &serde_json::Value) -> Result<T, String> {
        serde_json::from_value(object["spec"].clone()).map_err(|error| error.to_string())
    }
    let problems = match object["kind"].as_str().unwrap() {
        "Consumer" => read::<ConsumerSpec>(object)?.check(),
        "Credential" => read::<CredentialSpec>(object)?.check(),
        "AuthPlugin" => read::<AuthPluginSpec>(object)?.check(),
        "UpstreamPolicy" => read::<UpstreamPolicySpec>(object)?.check(),
        kind => panic!("{kind}"),
    };
    Ok(problems
        .into_iter()
        .map(|problem| problem.within("spec").to_string())
        .collect())
}

#[test]
fn files_are_refused_in_the_words_of_the_api_server() {
    let objects = corpus(include_str!("../corpus/refused.yaml"));
    assert!(objects.len() > 40);
    for object in objects {
        let expected = object["metadata"]["annotations"]["postern.dev/refused"]
            .as_str()
            .unwrap();
        match findings(&object) {
            Ok(found) => assert!(
                found.iter().any(|finding| finding.contains(expected)),
                "{object}: {found:?} instead of {expected}"
            ),
            // A value of the wrong type or a field that is missing; who reads the file adds the path.
            Err(error) => assert!(
                expected.starts_with("spec.") || error.contains(expected),
                "{object}: {error}"
            ),
        }
    }
}

#[test]
fn good_objects_pass() {
    let objects = corpus(include_str!("../corpus/accepted.yaml"));
    assert!(objects.len() > 8);
    for object in objects {
        assert_eq!(findings(&object).unwrap(), Vec::<String>::new(), "{object}");
    }
}

/// What the API server fills in, files are read as.
#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let spec: AuthPluginSpec = serde_json::from_value(serde_json::json!({"keyAuth": {}})).unwrap();
    let filled = serde_json::json!({
        "enabled": true,
        "consumers": {"from": "Same", "ifDifferent": "Replace"},
        "keyAuth": {
            "keyNames": ["apikey"],
            "keyInHeader": true,
            "keyInQuery": true,
            "keyInBody": false,
            "hideCredentials": false,
            "runOnPreflight": true,
            "maxBodyBytes": 1_048_576,
        },
    });
    assert_eq!(serde_json::to_value(&spec).unwrap(), filled);
    let definition = serde_json::to_value(AuthPlugin::crd()).unwrap();
    let schema =
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for (field, value) in filled["keyAuth"].as_object().unwrap() {
        assert_eq!(
            schema["properties"]["keyAuth"]["properties"][field]["default"], *value,
            "{field}"
        );
    }
    assert_eq!(schema["properties"]["enabled"]["default"], true);
    assert_eq!(
        schema["properties"]["consumers"]["default"],
        filled["consumers"]
    );
}

/// Bounds keep the cost of the CEL rules within what the API server grants.
#[test]
fn everything_that_grows_is_bounded() {
    fn walk(path: &str, schema: &serde_json::Value) {
        let bounded =
            |keyword: &str| assert!(schema.get(keyword).is_some(), "{path} has no {keyword}");
        match schema["type"].as_str().unwrap() {
            "array" => bounded("maxItems"),
            "string" if schema.get("enum").is_none() && schema.get("format").is_none() => {
                bounded("maxLength")
            }
            "object" if schema.get("additionalProperties").is_some() => bounded("maxProperties"),
            _ => {}
        }
        assert!(
            schema.get("description").is_some() || path.ends_with("[]") || path.ends_with('*'),
            "{path}"
        );
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{field}"), inner);
        }
        for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "*")] {
            if let Some(inner) = schema.get(keyword) {
                walk(&format!("{path}{suffix}"), inner);
            }
        }
    }
    for definition in definitions().unwrap() {
        let json = serde_json::to_value(&definition).unwrap();
        walk(
            &definition.spec.names.kind,
            &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        );
        assert!(!json.to_string().contains("nullable"));
    }
}

#[test]
fn nulls_count_as_absent() {
    let mut spec = serde_json::json!({
        "targetRefs": null,
        "enabled": null,
        "consumers": {"from": null},
        "keyAuth": {"keyNames": null, "anonymous": null, "realm": null},
        "acl": null,
    });
    prune_nulls(&mut spec);
    let read: AuthPluginSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(read.check(), []);
    assert_eq!(read.key_auth, Some(plugins::key_auth::Config::default()));
    let mut list = serde_json::json!({"tags": ["a", null, {"b": null}]});
    prune_nulls(&mut list);
    assert_eq!(list, serde_json::json!({"tags": ["a", null, {}]}));
}
