//! Reads a TOML table into settings and finds every mistake in it, by walking its JSON schema.
//!
//! The schema is walked over the parsed text, not over the settings: so each unknown key, wrong type,
//! value out of range and unknown choice is found in one pass, at any depth, at its own place. Serde
//! comes last and has little left to complain about.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::schema::Facets;
use crate::spec::{Invalid, Problem, Settings, nearest, schema_of};
use crate::table::Table;

/// Reads `table` into settings; reports every wrong key, type, range and combination, not only the first.
///
/// Lists of tables tagged by a key (`steps = [{ op = "flip" }]`, an internally tagged enum) and nested
/// tables are checked item by item.
///
/// # Errors
/// One [`Problem`] a mistake: P011 wrong type, P012 unknown parameter, P013 missing parameter, P014 bad
/// value, P015 unknown choice.
pub fn read<S: Settings>(table: &Table<'_>) -> Result<S, Vec<Problem>> {
    let schema = schema_of::<S>();
    let mut walk = Walk { problems: Vec::new() };
    walk.object(&Facets::new(schema.as_value(), schema.as_value()), &table.entries, &table.span, &table.path);
    let mut problems = walk.problems;
    // A value out of range still has the right type, so the stage can be asked for more.
    if problems.iter().any(|problem| problem.code != "P014") {
        return Err(problems);
    }
    let value = Spanned::new(table.span.clone(), DeValue::Table(table.entries.clone()));
    let settings = match serde_path_to_error::deserialize::<_, S>(ValueDeserializer::from(value)) {
        Ok(settings) => settings,
        // Told already: the number does not fit its type.
        Err(_) if !problems.is_empty() => return Err(problems),
        Err(error) => {
            let path = dotted(error.path());
            let span = error.inner().span().unwrap_or_else(|| table.span_of(&path));
            let place = join(&table.path, &path);
            let message = format!("`{place}`: {}", error.inner().message());
            problems.push(Problem::new("P011", span, message));
            return Err(problems);
        }
    };
    for Invalid { path, message, help } in settings.check() {
        let span = table.span_of(&path);
        // One complaint a value is enough.
        if problems.iter().all(|problem| problem.span != span) {
            let message = format!("`{}`: {message}", join(&table.path, &path));
            problems.push(Problem { help, ..Problem::new("P014", span, message) });
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

fn dotted(path: &serde_path_to_error::Path) -> String {
    path.to_string().replace('[', ".").replace([']', '?'], "").trim_matches('.').to_owned()
}

fn join(path: &str, name: &str) -> String {
    if name.is_empty() { path.to_owned() } else { format!("{path}.{name}") }
}

struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    fn value(&mut self, mut facets: Facets<'_>, value: &Spanned<DeValue<'_>>, path: &str) {
        let choices = facets.choices();
        if !choices.is_empty() {
            match choose(&choices, value, path) {
                Ok(choice) => facets = facets.and(choice),
                Err(problem) => return self.problems.push(problem),
            }
        }
        if let Err(problem) = scalar(&facets, value, path) {
            return self.problems.push(problem);
        }
        match value.get_ref() {
            DeValue::Table(entries) => self.object(&facets, entries, &value.span(), path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = facets.item(index) {
                        self.value(facets.sub(schema), item, &format!("{path}.{index}"));
                    }
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, facets: &Facets<'_>, entries: &DeTable<'_>, span: &Range<usize>, path: &str) {
        let known = facets.properties();
        let absent: Vec<&str> = known.keys().copied().filter(|name| !entries.contains_key(*name)).collect();
        let mut misspelt = Vec::new();
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            match known.get(name).copied().or_else(|| facets.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    let meant = nearest(name, &absent);
                    misspelt.extend(meant);
                    self.problems.push(unknown(key, meant, &known, path));
                }
                Some(schema) => self.value(facets.sub(schema), value, &join(path, name)),
                None => {}
            }
        }
        // A misspelt parameter is one mistake, not an unknown one and a missing one.
        let is_missing = |name: &&str| !entries.contains_key(*name) && !misspelt.contains(name);
        for name in facets.required().into_iter().filter(is_missing) {
            let about = known.get(name).and_then(|schema| schema["description"].as_str()).unwrap_or_default();
            let about = about.lines().next().unwrap_or_default();
            let help = if about.is_empty() { String::new() } else { format!(": {about}") };
            self.problems.push(
                Problem::new("P013", span.clone(), format!("`{path}`: missing parameter `{name}`"))
                    .label(format!("`{name}` must be given here"))
                    .help(format!("add `{name} = …`{help}")),
            );
        }
    }
}

/// Which of several forms the writer meant: by the tag of a table, or by the type of the value.
fn choose<'s>(
    choices: &[Facets<'s>],
    value: &Spanned<DeValue<'_>>,
    path: &str,
) -> Result<Facets<'s>, Problem> {
    if let [only] = choices {
        return Ok(only.clone());
    }
    if let DeValue::Table(entries) = value.get_ref() {
        let objects: Vec<&Facets<'s>> = choices.iter().filter(|choice| accepts(choice, value)).collect();
        if let Some(tag) = objects.iter().find_map(|choice| choice.tag()) {
            return tagged(&objects, tag, entries, value, path);
        }
    }
    if let Some(word) = value.get_ref().as_str() {
        let words: Vec<&str> = choices.iter().flat_map(Facets::words).collect();
        if !words.is_empty() {
            let chosen = choices.iter().find(|choice| choice.words().contains(&word)).cloned();
            return chosen.ok_or_else(|| unknown_choice(word, &words, value.span(), path));
        }
    }
    let fitting: Vec<&Facets<'s>> = choices.iter().filter(|choice| accepts(choice, value)).collect();
    let clean = |choice: &Facets<'s>| {
        let mut trial = Walk { problems: Vec::new() };
        trial.value(choice.clone(), value, path);
        trial.problems.is_empty()
    };
    let best = fitting.iter().find(|choice| clean(choice)).or(fitting.first());
    best.map(|choice| (*choice).clone()).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().flat_map(Facets::types).collect();
        wrong_type(&names, value, path)
    })
}

/// The form whose `tag` says the same as the table's.
fn tagged<'s>(
    objects: &[&Facets<'s>],
    tag: &str,
    entries: &DeTable<'_>,
    value: &Spanned<DeValue<'_>>,
    path: &str,
) -> Result<Facets<'s>, Problem> {
    let names: Vec<&str> = objects.iter().filter_map(|choice| choice.constant(tag)).collect();
    let Some(given) = entries.get(tag) else {
        let problem = Problem::new("P013", value.span(), format!("`{path}`: missing parameter `{tag}`"))
            .label(format!("`{tag}` must be given here"))
            .help(format!("one of: {}", names.join(", ")));
        return Err(problem);
    };
    let place = join(path, tag);
    let Some(word) = given.get_ref().as_str() else {
        return Err(wrong_type(&["string"], given, &place));
    };
    match objects.iter().find(|choice| choice.constant(tag) == Some(word)) {
        Some(choice) => Ok((*choice).clone()),
        None => Err(unknown_choice(word, &names, given.span(), &place)),
    }
}

fn accepts(facets: &Facets<'_>, value: &Spanned<DeValue<'_>>) -> bool {
    let fits = |name: &&str| match value.get_ref() {
        DeValue::String(_) => *name == "string",
        DeValue::Integer(_) => *name == "integer" || *name == "number",
        DeValue::Float(_) => *name == "number",
        DeValue::Boolean(_) => *name == "boolean",
        DeValue::Array(_) => *name == "array",
        DeValue::Table(_) => *name == "object",
        DeValue::Datetime(_) => false,
    };
    let names = facets.types();
    names.is_empty() || names.iter().any(fits)
}

fn scalar(facets: &Facets<'_>, value: &Spanned<DeValue<'_>>, path: &str) -> Result<(), Problem> {
    if !accepts(facets, value) {
        return Err(wrong_type(&facets.types(), value, path));
    }
    if let Some(word) = value.get_ref().as_str() {
        let words = facets.words();
        if !words.is_empty() && !words.contains(&word) {
            return Err(unknown_choice(word, &words, value.span(), path));
        }
    }
    match out_of_range(facets, value.get_ref()) {
        Some(message) => Err(Problem::new("P014", value.span(), format!("`{path}`: {message}"))),
        None => Ok(()),
    }
}

fn out_of_range(facets: &Facets<'_>, value: &DeValue<'_>) -> Option<String> {
    let bound = |key: &str| facets.number(key);
    match value {
        DeValue::Integer(integer) => {
            let Ok(whole) = i128::from_str_radix(integer.as_str(), integer.radix()) else {
                return Some("the number is too large".to_owned());
            };
            let number = whole as f64;
            let (low, high) = facets.width_bounds();
            // What the width implies is worth a word only to who ran into it.
            let min = bound("minimum").or((number < low).then_some(low));
            let max = bound("maximum").or((number > high).then_some(high));
            outside(
                number,
                &whole.to_string(),
                [min, bound("exclusiveMinimum")],
                [max, bound("exclusiveMaximum")],
            )
        }
        DeValue::Float(float) => {
            let number: f64 = float.as_str().parse().ok()?;
            if !number.is_finite() {
                return Some(format!("{} is not a finite number", float.as_str()));
            }
            let low = [bound("minimum"), bound("exclusiveMinimum")];
            outside(number, &number.to_string(), low, [bound("maximum"), bound("exclusiveMaximum")])
        }
        DeValue::Array(items) => {
            let shown = format!("a list of {}", items.len());
            outside(items.len() as f64, &shown, [bound("minItems"), None], [bound("maxItems"), None])
        }
        DeValue::String(text) => {
            let count = text.chars().count();
            let shown = format!("a string of length {count}");
            outside(count as f64, &shown, [bound("minLength"), None], [bound("maxLength"), None])
        }
        _ => None,
    }
}

/// The complaint if `number` is below `[at least, above]` or over `[at most, below]`.
fn outside(number: f64, shown: &str, low: [Option<f64>; 2], high: [Option<f64>; 2]) -> Option<String> {
    let fits = low[0].is_none_or(|bound| number >= bound)
        && low[1].is_none_or(|bound| number > bound)
        && high[0].is_none_or(|bound| number <= bound)
        && high[1].is_none_or(|bound| number < bound);
    if fits {
        return None;
    }
    let words = ["at least", "above", "at most", "below"];
    let bounds = low.into_iter().chain(high).zip(words);
    let range: Vec<String> =
        bounds.filter_map(|(bound, word)| bound.map(|bound| format!("{word} {bound}"))).collect();
    Some(format!("{shown} is out of range, expected {}", range.join(" and ")))
}

fn wrong_type(names: &[&str], value: &Spanned<DeValue<'_>>, path: &str) -> Problem {
    let mut expected: Vec<&str> = names.iter().map(|name| noun(name)).collect();
    expected.dedup();
    let expected = expected.join(" or ");
    let message = format!("`{path}`: expected {expected}, found {}", describe(value.get_ref()));
    let problem = Problem::new("P011", value.span(), message).label(format!("expected {expected}"));
    let unquoted = value.get_ref().as_str().is_some_and(|text| {
        names.iter().any(|name| match *name {
            "integer" => text.parse::<i64>().is_ok(),
            "number" => text.parse::<f64>().is_ok_and(f64::is_finite),
            "boolean" => text.parse::<bool>().is_ok(),
            _ => false,
        })
    });
    if unquoted {
        return problem.help("write it without quotes");
    }
    if names == ["array"] && !value.get_ref().is_table() {
        return problem.help("write a list, in square brackets");
    }
    problem
}

fn noun(json_type: &str) -> &str {
    match json_type {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) if number.radix() == 10 => format!("the whole number {}", number.as_str()),
        DeValue::Integer(_) => "a whole number".to_owned(),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn unknown(
    key: &Spanned<Cow<'_, str>>,
    meant: Option<&str>,
    known: &BTreeMap<&str, &Value>,
    path: &str,
) -> Problem {
    let message = format!("unknown parameter `{}` in `{path}`", key.get_ref());
    let names: Vec<&str> = known.keys().copied().collect();
    Problem::new("P012", key.span(), message).label("not a parameter here").help(match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => "there are no parameters here; remove it".to_owned(),
        None => format!("parameters: {}", names.join(", ")),
    })
}

fn unknown_choice(word: &str, words: &[&str], span: Range<usize>, path: &str) -> Problem {
    Problem::new("P015", span, format!("`{path}`: {word:?} is not one of its values"))
        .label("unknown value")
        .help(match nearest(word, words) {
            Some(near) => format!("did you mean `{near}`? Values: {}", words.join(", ")),
            None => format!("values: {}", words.join(", ")),
        })
}
