//! Asks a JSON schema questions: which types, properties, choices and bounds it allows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A schema and everything it refers to, all of which hold at once.
#[derive(Clone, Debug)]
pub struct Facets<'s> {
    root: &'s Value,
    parts: Vec<&'s Value>,
}

impl<'s> Facets<'s> {
    /// A schema within the document `root`, with its `$ref` and `allOf` followed.
    #[must_use]
    pub fn new(root: &'s Value, schema: &'s Value) -> Self {
        let mut parts = vec![schema];
        let mut next = 0;
        while let Some(part) = parts.get(next).copied() {
            let target = part["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
            let all = part["allOf"].as_array().into_iter().flatten();
            for part in target.into_iter().chain(all) {
                if !parts.iter().any(|known| std::ptr::eq(*known, part)) {
                    parts.push(part);
                }
            }
            next += 1;
        }
        Self { root, parts }
    }

    /// Another schema of the same document.
    #[must_use]
    pub fn sub(&self, schema: &'s Value) -> Self {
        Self::new(self.root, schema)
    }

    /// Both at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// The first value that is stated for `keyword`.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&'s Value> {
        self.parts.iter().find_map(|part| part.get(keyword))
    }

    /// The forms a value may have (`oneOf`, `anyOf`, also nested), without `null`; empty if there is only
    /// one.
    #[must_use]
    pub fn choices(&self) -> Vec<Self> {
        let lists = self.parts.iter().flat_map(|part| [&part["oneOf"], &part["anyOf"]]);
        let choices = lists.filter_map(Value::as_array).flatten();
        choices
            .filter(|choice| choice["type"] != "null")
            .flat_map(|choice| {
                let choice = self.sub(choice);
                let nested = choice.choices();
                if nested.is_empty() { vec![choice] } else { nested }
            })
            .collect()
    }

    /// Properties of a table by name.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<&'s str, &'s Value> {
        let all = self.parts.iter().filter_map(|part| part["properties"].as_object()).flatten();
        all.map(|(name, schema)| (name.as_str(), schema)).collect()
    }

    /// Names of the properties that must be there.
    #[must_use]
    pub fn required(&self) -> Vec<&'s str> {
        let lists = self.parts.iter().filter_map(|part| part["required"].as_array());
        lists.flatten().filter_map(Value::as_str).collect()
    }

    /// The schema of each item of a list, by position.
    #[must_use]
    pub fn item(&self, index: usize) -> Option<&'s Value> {
        let mut fixed = self.parts.iter().filter_map(|part| part["prefixItems"].as_array()).flatten();
        fixed.nth(index).or_else(|| self.get("items"))
    }

    /// The property with a fixed string for a value, by which the forms of a table are told apart.
    #[must_use]
    pub fn tag(&self) -> Option<&'s str> {
        self.properties().into_iter().find(|(_, schema)| schema["const"].is_string()).map(|(name, _)| name)
    }

    /// The fixed value of the property `tag`.
    #[must_use]
    pub fn constant(&self, tag: &str) -> Option<&'s str> {
        self.parts.iter().find_map(|part| part["properties"][tag]["const"].as_str())
    }

    /// The strings that are allowed; empty if the schema does not list them.
    #[must_use]
    pub fn words(&self) -> Vec<&'s str> {
        let listed = self.parts.iter().filter_map(|part| part["enum"].as_array()).flatten();
        listed.chain(self.parts.iter().map(|part| &part["const"])).filter_map(Value::as_str).collect()
    }

    /// Names of the JSON types that are allowed, without `null`; empty if all are.
    #[must_use]
    pub fn types(&self) -> Vec<&'s str> {
        let mut names = Vec::new();
        for part in &self.parts {
            match &part["type"] {
                Value::String(name) => names.push(name.as_str()),
                Value::Array(list) => names.extend(list.iter().filter_map(Value::as_str)),
                _ => {}
            }
        }
        names.retain(|name| *name != "null");
        names.dedup();
        names
    }

    /// Bounds that the width of a whole number implies: 0 to 255 for `uint8`.
    #[must_use]
    pub fn width_bounds(&self) -> (f64, f64) {
        match self.get("format").and_then(Value::as_str) {
            Some("uint8") => (0.0, f64::from(u8::MAX)),
            Some("uint16") => (0.0, f64::from(u16::MAX)),
            Some("uint32") => (0.0, f64::from(u32::MAX)),
            // TOML's own limit is that of i64.
            Some("uint" | "uint64") => (0.0, i64::MAX as f64),
            Some("int8") => (f64::from(i8::MIN), f64::from(i8::MAX)),
            Some("int16") => (f64::from(i16::MIN), f64::from(i16::MAX)),
            Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
            _ => (i64::MIN as f64, i64::MAX as f64),
        }
    }

    /// A numeric keyword, such as `minimum`.
    #[must_use]
    pub fn number(&self, keyword: &str) -> Option<f64> {
        self.get(keyword).and_then(Value::as_f64)
    }

    /// The form that a table has: the one whose tag says the same, with what all forms share.
    #[must_use]
    pub fn form_of(&self, values: &Map<String, Value>) -> Self {
        let choices = self.choices();
        let says_same = |choice: &&Self| {
            choice.tag().is_some_and(|tag| choice.constant(tag) == values.get(tag).and_then(Value::as_str))
        };
        let chosen = if choices.len() == 1 { choices.first() } else { choices.iter().find(says_same) };
        chosen.map_or_else(|| self.clone(), |choice| self.clone().and(choice.clone()))
    }

    /// Adds to `values` what the schema gives as default and the writer left out, at any depth.
    pub fn fill_defaults(&self, values: &mut Map<String, Value>) {
        for (name, schema) in self.form_of(values).properties() {
            let facets = self.sub(schema);
            if let Some(default) = facets.default().filter(|_| !values.contains_key(name)) {
                values.insert(name.to_owned(), default);
            }
            match values.get_mut(name) {
                Some(Value::Object(inner)) => facets.fill_defaults(inner),
                Some(Value::Array(items)) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        if let (Value::Object(inner), Some(schema)) = (item, facets.item(index)) {
                            facets.sub(schema).fill_defaults(inner);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The default as a person would write it: 0.1, where the f32 nearest to it is 0.10000000149011612,
    /// and without entries that are `null`.
    #[must_use]
    pub fn default(&self) -> Option<Value> {
        self.get("default").map(|default| self.narrowed(default))
    }

    fn narrowed(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => {
                let narrow = |(index, item)| match self.item(index) {
                    Some(schema) => self.sub(schema).narrowed(item),
                    None => item.clone(),
                };
                items.iter().enumerate().map(narrow).collect()
            }
            Value::Object(entries) => {
                let known = self.form_of(entries).properties();
                let narrow = |(name, value): (&String, &Value)| {
                    let schema = known.get(name.as_str());
                    let value =
                        schema.map_or_else(|| value.clone(), |schema| self.sub(schema).narrowed(value));
                    (name.clone(), value)
                };
                entries.iter().filter(|(_, value)| !value.is_null()).map(narrow).collect()
            }
            Value::Number(number) if number.is_f64() && self.get("format") == Some(&"float".into()) => {
                let short = number.as_f64().map(|wide| (wide as f32).to_string());
                short.and_then(|text| text.parse::<f64>().ok()).map_or_else(|| value.clone(), Value::from)
            }
            _ => value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_filled_at_any_depth_and_written_short() {
        let schema = json!({
            "properties": {
                "rate": { "type": "number", "format": "float", "default": 0.1f32 },
                "inner": { "$ref": "#/$defs/Inner" },
                "steps": { "type": "array", "items": { "oneOf": [
                    { "properties": { "op": { "const": "flip" }, "p": { "default": 0.5 } } },
                    { "properties": { "op": { "const": "turn" }, "by": { "default": 9 } } },
                ] } },
            },
            "$defs": { "Inner": { "properties": { "depth": { "default": 3 }, "none": { "default": null } } } },
        });
        let mut values = json!({ "inner": {}, "steps": [{ "op": "turn" }, { "op": "flip", "p": 1 }] });
        let table = values.as_object_mut().unwrap();
        Facets::new(&schema, &schema).fill_defaults(table);
        let expected = json!({
            "rate": 0.1,
            "inner": { "depth": 3, "none": null },
            "steps": [{ "op": "turn", "by": 9 }, { "op": "flip", "p": 1 }],
        });
        assert_eq!(values, expected);
    }
}
