//! Replacing texts within JSON and leaving every other byte as it is.

use serde::de::IgnoredAny;

/// Lists and objects in each other, at most. Of deeper JSON nothing is replaced.
const MAX_DEPTH: usize = 64;

/// Calls `replace` with the keys on the way to each text that is a value, and the text; returns the
/// JSON with what was replaced, `None` if nothing was or if it is no JSON, or too deep.
///
/// The elements of a list have the keys of the list.
pub(super) fn replace_texts(
    json: &str,
    replace: &mut impl FnMut(&[String], &str) -> Option<String>,
) -> Option<String> {
    if !json.trim_start().starts_with(['{', '['])
        || serde_json::from_str::<IgnoredAny>(json).is_err()
    {
        return None;
    }
    let (path, out) = (Vec::new(), String::new());
    let mut scan = Scan { json, at: 0, depth: 0, path, out, copied: 0 };
    scan.value(replace)?;
    if scan.copied == 0 {
        return None;
    }
    scan.out.push_str(json.get(scan.copied..)?);
    Some(scan.out)
}

/// A walk through JSON that is known to be valid.
struct Scan<'a> {
    json: &'a str,
    at: usize,
    /// Lists and objects around what is read.
    depth: usize,
    path: Vec<String>,
    out: String,
    /// Bytes of the input that are in `out`, replaced or not.
    copied: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// Skips white space and what separates values.
    fn skip(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace() || b == b',' || b == b':') {
            self.at += 1;
        }
    }

    /// Steps behind a value; `None` if it is too deep: that JSON is valid does not limit its depth.
    fn value(&mut self, replace: &mut impl FnMut(&[String], &str) -> Option<String>) -> Option<()> {
        self.skip();
        let start = self.peek()?;
        if matches!(start, b'{' | b'[') {
            if self.depth == MAX_DEPTH {
                return None;
            }
            self.depth += 1;
        }
        match start {
            b'{' => {
                self.at += 1;
                loop {
                    self.skip();
                    if self.peek()? == b'}' {
                        break;
                    }
                    let (start, end) = self.text()?;
                    let key = serde_json::from_str(self.json.get(start..end)?).ok()?;
                    self.path.push(key);
                    self.value(replace)?;
                    self.path.pop();
                }
                self.at += 1;
                self.depth -= 1;
            }
            b'[' => {
                self.at += 1;
                loop {
                    self.skip();
                    if self.peek()? == b']' {
                        break;
                    }
                    self.value(replace)?;
                }
                self.at += 1;
                self.depth -= 1;
            }
            b'"' => {
                let (start, end) = self.text()?;
                let text: String = serde_json::from_str(self.json.get(start..end)?).ok()?;
                if let Some(replaced) = replace(&self.path, &text) {
                    self.out.push_str(self.json.get(self.copied..start)?);
                    self.out.push_str(&serde_json::to_string(&replaced).ok()?);
                    self.copied = end;
                }
            }
            _ => {
                while self.peek().is_some_and(|b| !matches!(b, b',' | b'}' | b']')) {
                    self.at += 1;
                }
            }
        }
        Some(())
    }

    /// The bounds of the text that begins here, quotes included; steps behind it.
    fn text(&mut self) -> Option<(usize, usize)> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some((start, self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_what_is_replaced_changes() {
        let json = r#"{ "a" : "x" ,"b":[1.5e3, "x",{"a":"x\u003c"}],"c":{"a":null,"x":"x"} }"#;
        let replaced = replace_texts(json, &mut |path, text| {
            (path == ["a"] || path == ["b"]).then(|| format!("{text}\"!"))
        });
        let expected =
            r#"{ "a" : "x\"!" ,"b":[1.5e3, "x\"!",{"a":"x\u003c"}],"c":{"a":null,"x":"x"} }"#;
        assert_eq!(replaced.as_deref(), Some(expected));
        assert_eq!(replace_texts(json, &mut |_, _| None), None);
        assert_eq!(replace_texts("[1", &mut |_, _| Some(String::new())), None);
    }

    #[test]
    fn of_deep_json_nothing_is_replaced() {
        let nested = |depth: usize| format!("{}\"x\"{}", "[".repeat(depth), "]".repeat(depth));
        let replace = &mut |_: &[String], _: &str| Some("y".to_owned());
        // Beside each other they do not add up.
        let beside = format!("[{0},{0}]", nested(MAX_DEPTH - 1));
        let replaced = replace_texts(&beside, replace);
        assert_eq!(replaced, Some(beside.replace('x', "y")));
        for depth in [MAX_DEPTH + 1, 100_000] {
            assert_eq!(replace_texts(&nested(depth), replace), None, "{depth}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,6}|[\"\\\\{}\\[\\],: ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn append_to_texts(value: &mut Value) {
        match value {
            Value::String(text) => text.push('+'),
            Value::Array(list) => list.iter_mut().for_each(append_to_texts),
            Value::Object(map) => map.values_mut().for_each(append_to_texts),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_text_is_found(mut value in any_json(), pretty in any::<bool>()) {
            let json = if pretty {
                serde_json::to_string_pretty(&value).expect("a text")
            } else {
                value.to_string()
            };
            let replaced = replace_texts(&json, &mut |_, text| Some(format!("{text}+")));
            if value.is_array() || value.is_object() {
                append_to_texts(&mut value);
                let found: Value = serde_json::from_str(&replaced.unwrap_or(json)).expect("JSON");
                prop_assert_eq!(found, value);
            } else {
                prop_assert_eq!(replaced, None);
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,30}|[\"\\\\{}\\[\\],:a0]{0,20}") {
            let _ = replace_texts(&text, &mut |_, text| Some(text.to_owned()));
        }
    }
}
