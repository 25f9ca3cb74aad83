//! Compiles the `.proto` files and gives every message of the client protocol its JSON form.
//!
//! Field names in the `.proto` files are the names on the wire (`userIDs`, `faceURL`, `Msgs`). Rust
//! sees them in snake case; JSON keeps the wire name. All of it follows from the descriptors, so a
//! new field needs nothing but its line in the `.proto` file.

use std::path::PathBuf;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

const WRAPPERS_PACKAGE: &str = "openim.protobuf";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = std::fs::read_dir("proto/openim")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();

    let mut descriptors = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]).include_file("wire.rs");
    for file in &mut descriptors.file {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            // Attributes of a message hold for those nested in it too.
            let serde = if package == WRAPPERS_PACKAGE { "transparent" } else { "default" };
            config.message_attribute(
                format!(".{package}.{}", message.name()),
                format!("#[derive(serde::Serialize, serde::Deserialize)] #[serde({serde})]"),
            );
            describe(&mut config, &format!(".{package}"), message);
        }
    }
    config.compile_fds(descriptors)?;

    let between_nodes = protox::compile(["proto/entente/federation.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).compile_fds(between_nodes)?;
    Ok(())
}

/// Adds the JSON attributes of one message and of those nested in it.
fn describe(config: &mut prost_build::Config, scope: &str, message: &mut DescriptorProto) {
    let path = format!("{scope}.{}", message.name());
    if scope.trim_start_matches('.') == WRAPPERS_PACKAGE {
        for field in &message.field {
            json_form(config, &path, field, false);
            if field.r#type() == Type::Bool {
                config.field_attribute(
                    format!("{path}.{}", field.name()),
                    "#[serde(deserialize_with = \"crate::json::bool_or_digit\")]",
                );
            }
        }
        return;
    }
    let maps: Vec<String> = message
        .nested_type
        .iter()
        .filter(|nested| nested.options.as_ref().is_some_and(|options| options.map_entry()))
        .map(|nested| format!("{path}.{}", nested.name()))
        .collect();
    for field in &mut message.field {
        let wire_name = field.name().to_owned();
        let rust_name = snake_case(&wire_name);
        if rust_name != wire_name {
            field.name = Some(rust_name.clone());
            config.field_attribute(
                format!("{path}.{rust_name}"),
                format!("#[serde(rename = \"{wire_name}\")]"),
            );
        }
        let is_map = maps.iter().any(|map| map == field.type_name());
        json_form(config, &path, field, is_map);
    }
    for nested in &mut message.nested_type {
        if !nested.options.as_ref().is_some_and(|options| options.map_entry()) {
            describe(config, &path, nested);
        }
    }
}

/// Lists are `null` when empty, maps are left out when empty, bytes are base64.
fn json_form(
    config: &mut prost_build::Config,
    message: &str,
    field: &FieldDescriptorProto,
    is_map: bool,
) {
    let path = format!("{message}.{}", field.name());
    if is_map {
        config.field_attribute(
            path,
            "#[serde(skip_serializing_if = \"::std::collections::BTreeMap::is_empty\")]",
        );
    } else if field.label() == Label::Repeated {
        config.field_attribute(path, "#[serde(serialize_with = \"crate::json::null_when_empty\")]");
    } else if field.r#type() == Type::Bytes {
        config.field_attribute(path, "#[serde(with = \"crate::json::base64_bytes\")]");
    }
}

/// `userIDs` → `user_ids`, `faceURL` → `face_url`, `Msgs` → `msgs`, `iOSPushSound` → `ios_push_sound`.
fn snake_case(name: &str) -> String {
    let name = name.replace("iOS", "Ios").replace("IDs", "Ids").replace("URLs", "Urls");
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let after_lower = i > 0 && !chars[i - 1].is_ascii_uppercase() && chars[i - 1] != '_';
            let starts_word = i > 0
                && chars[i - 1].is_ascii_uppercase()
                && chars.get(i + 1).is_some_and(|next| next.is_ascii_lowercase());
            if after_lower || starts_word {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}
