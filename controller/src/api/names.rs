//! Names: of fields, in our words and in Kong's; of objects that are made.

use aws_lc_rs::{digest, rand};
use uuid::Uuid;

use super::refused::Refused;

/// The longest beginning of an object's name.
const LONGEST: usize = 48;

/// "keyNames" as "key_names".
pub(crate) fn snake(camel: &str) -> String {
    let mut text = String::with_capacity(camel.len() + 4);
    for character in camel.chars() {
        if character.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

/// "key_names" as "keyNames".
pub(crate) fn camel(snake: &str) -> String {
    let mut text = String::with_capacity(snake.len());
    let mut upper = false;
    for character in snake.chars() {
        if character == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            text.push(character.to_ascii_uppercase());
        } else {
            text.push(character);
        }
    }
    text
}

/// A field of an object, "spec.keyAuth.keyNames[1]", as the API calls it.
pub(crate) fn renamed(field: &str, message: &str) -> (String, String) {
    let bare: String = {
        let mut depth = 0_u32;
        field
            .chars()
            .filter(|character| match character {
                '[' => {
                    depth += 1;
                    false
                }
                ']' => {
                    depth = depth.saturating_sub(1);
                    false
                }
                _ => depth == 0,
            })
            .collect()
    };
    let bare = bare.strip_prefix("spec").unwrap_or(&bare);
    let bare = bare.trim_start_matches('.');
    let name = match bare {
        "consumerRef" | "consumerRef.name" => "consumer".to_owned(),
        "keyAuth.secretRef" | "keyAuth.hash" | "jwt.key" => "key".to_owned(),
        "jwt.secretRef" => "secret".to_owned(),
        "jwt.publicKey" => "rsa_public_key".to_owned(),
        "groups" => "group".to_owned(),
        _ => {
            let (head, rest) = bare.split_once('.').unwrap_or((bare, ""));
            match head {
                "username" | "customId" | "id" | "tags" | "ttl" | "enabled" | "" => snake(bare),
                "notBefore" | "expiresAt" | "targetRefs" | "consumers" => String::new(),
                _ if rest.is_empty() => "config".to_owned(),
                _ => format!("config.{}", snake(rest)),
            }
        }
    };
    (name, message.to_owned())
}

/// One violation, of a field of an object.
pub(crate) fn violations(field: &str, message: &str) -> Refused {
    let (name, message) = renamed(field, message);
    Refused::violation(name, message)
}

/// An object's name that follows from any text, and differs where texts differ.
pub(crate) fn object_name(text: &str) -> String {
    let bare = slug(text);
    if bare == text && !bare.is_empty() {
        bare
    } else {
        distinct_name(text)
    }
}

/// The same, for when the plain name is somebody else's.
pub(crate) fn distinct_name(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let tail: String = digest
        .as_ref()
        .iter()
        .take(5)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match slug(text).as_str() {
        "" => format!("x-{tail}"),
        bare => format!("{bare}-{tail}"),
    }
}

/// Lower-case letters, digits and hyphens, as Kubernetes wants names.
fn slug(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|character| match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => letter,
            _ => '-',
        })
        .take(LONGEST)
        .collect();
    mapped.trim_matches('-').to_owned()
}

/// A name that nobody has.
pub(crate) fn fresh_name(of: &str, kind: &str) -> String {
    let id = Uuid::new_v4().simple().to_string();
    let tail = id.get(..10).unwrap_or(&id);
    let head = slug(of);
    format!("{head}-{kind}-{tail}").trim_matches('-').to_owned()
}

/// 32 letters and digits, each equally likely: about 190 bits.
pub(crate) fn secret() -> Result<String, Refused> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(32);
    while text.len() < 32 {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).map_err(|_| Refused::Unexpected)?;
        // Bytes from 248 on would favour the first letters.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        text.extend(
            letters
                .map(|letter| char::from(*letter))
                .take(32 - text.len()),
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::is_label;

    #[test]
    fn fields_have_the_names_that_callers_know() {
        for (field, name) in [
            ("spec.customId", "custom_id"),
            ("spec.tags[3]", "tags"),
            ("spec.keyAuth.keyNames[1]", "config.key_names"),
            ("spec.jwt.publicKey", "rsa_public_key"),
            ("spec.jwt.maximumExpiration", "config.maximum_expiration"),
            ("spec.acl", "config"),
            ("spec", ""),
        ] {
            assert_eq!(renamed(field, "").0, name, "{field}");
        }
        assert_eq!(camel("run_on_preflight"), "runOnPreflight");
        assert_eq!(snake("runOnPreflight"), "run_on_preflight");
    }

    #[test]
    fn every_text_has_a_name() {
        assert_eq!(object_name("alice"), "alice");
        for text in [
            "Alice",
            "a b",
            "",
            "--",
            "ü",
            "alice@example.com",
            &"x".repeat(300),
        ] {
            let name = object_name(text);
            assert!(is_label(&name), "{text}: {name}");
        }
        assert_ne!(object_name("a b"), object_name("a_b"));
        assert!(is_label(&fresh_name("Ü", "key-auth")));
        assert_eq!(secret().unwrap().len(), 32);
    }
}
