//! Embeddings as a Parquet file: whose each is, when it was, and by which encoder.
//!
//! | column | type |
//! | --- | --- |
//! | `id` | text: the segment's id as everywhere, 16 hexadecimal digits |
//! | `path` | text: the medium as its source names it |
//! | `label`, `split`, `group` | text or null |
//! | `start_secs`, `end_secs` | float64: media time of the clip's first and last frame |
//! | `embedding` | fixed-size list of float32 |
//!
//! The file's metadata has `reelflow.encoder`, the fingerprint of the weights: embeddings of two encoders cannot be
//! compared, and [`read`]'s caller can tell.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use reelflow_api::error::StageError;
use reelflow_api::item::{Media, Orientation, Origin, Part, Segment, SegmentId};

use super::Embedded;

/// Key of the encoder's fingerprint in the file's metadata.
const ENCODER: &str = "reelflow.encoder";
/// Columns of text, in order; the first two are never null.
const TEXTS: [&str; 5] = ["id", "path", "label", "split", "group"];
/// Columns of seconds.
const SECS: [&str; 2] = ["start_secs", "end_secs"];
/// Column of the embeddings.
const EMBEDDING: &str = "embedding";

/// What a file holds.
#[derive(Debug)]
pub struct Archive {
    /// Fingerprint of the encoder.
    pub encoder: String,
    /// One a row. Segments are as far as the file knows them: their time is that of all their clips.
    pub items: Vec<Embedded>,
}

/// The file's bytes; `encoder` is the fingerprint of the weights.
///
/// # Errors
/// If there is no row, or rows differ in length.
pub fn write(items: &[Embedded], encoder: &str) -> Result<Vec<u8>, StageError> {
    let dim = items.first().map_or(0, |item| item.vector.len());
    if dim == 0 || items.iter().any(|item| item.vector.len() != dim) {
        return Err(StageError::failed("embed", "there are no embeddings of one length to write"));
    }
    let failed = |error: &dyn std::fmt::Display| StageError::failed("embed", format!("no Parquet: {error}"));
    let batch = batch(items, dim).map_err(|error| failed(&error))?;
    let about = vec![KeyValue::new(ENCODER.to_owned(), encoder.to_owned())];
    let properties = WriterProperties::builder().set_key_value_metadata(Some(about)).build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(|error| failed(&error))?;
    writer.write(&batch).and_then(|()| writer.close()).map_err(|error| failed(&error))?;
    Ok(bytes)
}

fn batch(items: &[Embedded], dim: usize) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (at, name) in TEXTS.into_iter().enumerate() {
        let texts: StringArray = items.iter().map(|item| text(&item.segment, name)).collect();
        fields.push(Field::new(name, DataType::Utf8, at > 1));
        columns.push(Arc::new(texts));
    }
    for (at, name) in SECS.into_iter().enumerate() {
        let secs = |item: &Embedded| if at == 0 { item.span_secs.0 } else { item.span_secs.1 };
        fields.push(Field::new(name, DataType::Float64, false));
        columns.push(Arc::new(Float64Array::from_iter_values(items.iter().map(secs))));
    }
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = items.iter().flat_map(|item| item.vector.iter().copied());
    let values = Arc::new(Float32Array::from_iter_values(values));
    let embeddings = FixedSizeListArray::try_new(Arc::clone(&item), dim as i32, values, None)?;
    fields.push(Field::new(EMBEDDING, DataType::FixedSizeList(item, dim as i32), false));
    columns.push(Arc::new(embeddings));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn text(segment: &Segment, column: &str) -> Option<String> {
    match column {
        "id" => Some(format!("{:016x}", segment.id.0)),
        "path" => Some(segment.media.name.clone()),
        "label" => segment.label.as_deref().map(str::to_owned),
        "split" => segment.split.as_deref().map(str::to_owned),
        _ => segment.group.as_deref().map(str::to_owned),
    }
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// If there is no such file, it is no Parquet, or columns are missing or of another type (they are named).
pub fn read(path: &Path) -> Result<Archive, StageError> {
    let place = path.display();
    let storage = |what: String| StageError::storage("search", format!("`{place}`: {what}"));
    let file = File::open(path).map_err(|error| storage(error.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| storage(format!("no Parquet file: {error}")))?;
    let about = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let encoder = about.into_iter().find(|entry| entry.key == ENCODER).and_then(|entry| entry.value);
    let encoder = encoder.ok_or_else(|| {
        storage(format!("it does not say by which encoder (`{ENCODER}`); write it with `reelflow embed`"))
    })?;
    let batches = builder.build().map_err(|error| storage(error.to_string()))?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|error| storage(error.to_string()))?;
        rows.extend(rows_of(&batch).map_err(storage)?);
    }
    Ok(Archive { encoder, items: items(rows) })
}

/// A row as it stands in the file.
struct Row {
    texts: [Option<String>; TEXTS.len()],
    span_secs: (f64, f64),
    vector: Vec<f32>,
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, String> {
    let column =
        |name: &str| batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"));
    let other = |name: &str, wanted: &str| format!("column `{name}` is not {wanted}");
    let mut texts = Vec::new();
    for name in TEXTS {
        texts.push(column(name)?.as_string_opt::<i32>().ok_or_else(|| other(name, "text"))?);
    }
    let mut secs = Vec::new();
    for name in SECS {
        secs.push(column(name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| other(name, "float64"))?);
    }
    let lists = column(EMBEDDING)?.as_fixed_size_list_opt();
    let lists = lists.ok_or_else(|| other(EMBEDDING, "a fixed-size list"))?;
    if lists.value_type() != DataType::Float32 {
        return Err(other(EMBEDDING, "a list of float32"));
    }
    let row = |at: usize| Row {
        texts: std::array::from_fn(|column| {
            let texts = texts[column];
            arrow_array::Array::is_valid(texts, at).then(|| texts.value(at).to_owned())
        }),
        span_secs: (secs[0].value(at), secs[1].value(at)),
        vector: lists.value(at).as_primitive::<Float32Type>().values().to_vec(),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// Gives the rows of one id one segment.
fn items(rows: Vec<Row>) -> Vec<Embedded> {
    let mut spans: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let id = |row: &Row| row.texts[0].clone().unwrap_or_default();
    for row in &rows {
        let span = spans.entry(id(row)).or_insert(row.span_secs);
        *span = (span.0.min(row.span_secs.0), span.1.max(row.span_secs.1));
    }
    let mut segments: BTreeMap<String, Arc<Segment>> = BTreeMap::new();
    let item = |row: Row| {
        let id = id(&row);
        let segment = segments.entry(id.clone()).or_insert_with(|| segment(&id, &row.texts, spans[&id]));
        Embedded { segment: Arc::clone(segment), span_secs: row.span_secs, vector: row.vector, scores: None }
    };
    rows.into_iter().map(item).collect()
}

/// A segment that can be named and compared with others, not decoded.
fn segment(id: &str, texts: &[Option<String>; TEXTS.len()], (start, end): (f64, f64)) -> Arc<Segment> {
    let nanos = |secs: f64| (secs * 1e9).round().max(0.0) as u64;
    let name = texts[1].clone().unwrap_or_default();
    let media = Media {
        origin: Origin::File(name.clone().into()),
        name,
        width: 0,
        height: 0,
        orientation: Orientation::default(),
        times: [nanos(start), nanos(end)].into(),
        keys: [0].into(),
        codec: "".into(),
        bytes: 0,
        track: None,
        part: Part::default(),
    };
    let text = |at: usize| texts[at].as_deref().map(Arc::from);
    Arc::new(Segment {
        // Whoever changed the file gets segments of their own.
        id: SegmentId(
            u64::from_str_radix(id, 16).unwrap_or_else(|_| xxhash_rust::xxh3::xxh3_64(id.as_bytes())),
        ),
        media: Arc::new(media),
        first: 0,
        count: 2,
        label: text(2),
        split: text(3),
        group: text(4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::moments::moments;
    use crate::eval::tests::items as embedded;

    fn written(items: &[Embedded]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.parquet");
        std::fs::write(&path, write(items, "e1").unwrap()).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut items = embedded("a/g/train:1,-0.5,3e-30|0,2,4 b:5,6,7");
        items[0].span_secs = (0.25, 1.5);
        items[1].span_secs = (2.0, 2.125);
        let (_folder, path) = written(&items);
        let found = read(&path).unwrap();
        assert_eq!((found.encoder.as_str(), found.items.len()), ("e1", 3));
        for (item, found) in items.iter().zip(&found.items) {
            let (a, b) = (&item.segment, &found.segment);
            assert_eq!(
                (a.id, &a.media.name, &a.label, &a.group, &a.split),
                (b.id, &b.media.name, &b.label, &b.group, &b.split)
            );
            assert_eq!((item.span_secs, &item.vector), (found.span_secs, &found.vector));
        }
        assert!(Arc::ptr_eq(&found.items[0].segment, &found.items[1].segment), "clips of one segment");
        let moments = moments(&found.items).unwrap();
        assert_eq!((moments.len(), moments[0].span_secs), (2, (0.25, 2.125)));
    }

    #[test]
    fn the_columns_have_the_types_they_should() {
        let (_folder, path) = written(&embedded("a:1,2 b:3,4"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let schema = builder.schema();
        let types: Vec<String> =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        assert_eq!(
            types[..7],
            [
                "id Utf8",
                "path Utf8",
                "label Utf8",
                "split Utf8",
                "group Utf8",
                "start_secs Float64",
                "end_secs Float64"
            ]
        );
        assert!(
            matches!(schema.field(7).data_type(), DataType::FixedSizeList(item, 2) if *item.data_type() == DataType::Float32)
        );
    }

    #[test]
    fn other_files_are_refused_with_what_they_lack() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let refused = |path: &Path| {
            let error = read(path).unwrap_err();
            assert_eq!(error.code, 74);
            error.message
        };
        assert!(refused(&path).contains("x.parquet"));
        std::fs::write(&path, "id,path\n").unwrap();
        assert!(refused(&path).contains("no Parquet file"));
        // A table of somebody else.
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Float64, false)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Float64Array::from(vec![1.0]))]);
        let write = |about: Option<&str>| {
            let about = about.map(|encoder| vec![KeyValue::new(ENCODER.to_owned(), encoder.to_owned())]);
            let properties = WriterProperties::builder().set_key_value_metadata(about).build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties)).unwrap();
            writer.write(batch.as_ref().unwrap()).unwrap();
            writer.close().unwrap();
            std::fs::write(&path, bytes).unwrap();
        };
        write(None);
        assert!(refused(&path).contains("it does not say by which encoder"));
        write(Some("e1"));
        assert!(refused(&path).contains("column `id` is not text"));
        assert!(super::write(&[], "e1").is_err());
    }
}
