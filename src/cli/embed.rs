//! `reelflow embed`: the embedding of every clip, and whose it is: a Parquet file, or a NumPy array with a table beside.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use reelflow_api::error::StageError;

use super::encoders::{self, BATCH};
use crate::edge::files;
use crate::eval::Embedded;
#[cfg(feature = "parquet")]
use crate::eval::archive::write as parquet;
use crate::eval::embed::{Choice, Clips};
use crate::eval::recipe::{self, Wishes};
use crate::train::Embedder;

/// Arguments of `reelflow embed`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder (its newest checkpoint) or one checkpoint's folder.
    run: PathBuf,
    /// Files, folders or lists. May be given often.
    #[arg(long, required = true, value_name = "PATH")]
    data: Vec<String>,
    /// Folder of the media that lists name, where it is not the list's own.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The file to write, a row a clip. `NAME.parquet` has embeddings, ids, times and labels in one, and `search` can
    /// read it; `NAME.npy` is the array alone (float32), with `NAME.csv` beside it that says what each row is.
    #[arg(long, value_name = "FILE", value_parser = out)]
    out: PathBuf,
    /// Clips of every segment, evenly spaced, each a row.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clips: u32,
    /// Cut longer media into pieces of so many seconds, each with its own clips.
    #[arg(long, value_name = "SECS", value_parser = super::secs)]
    segment_secs: Option<f64>,
    /// The encoder as it was before training.
    #[arg(long)]
    untrained: bool,
    /// `auto`, `cpu`, `cuda`, `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
}

fn out(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().is_some_and(|extension| extension == "npy" || extension == "parquet") {
        true => Ok(path),
        false => Err("must end in `.parquet` or `.npy`".to_owned()),
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match embed(args) {
        Ok(text) => {
            super::say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

fn embed(args: &Args) -> Result<String, StageError> {
    let mut encoders = encoders::open(&args.run, &args.device, args.untrained)?;
    encoders.networks.truncate(1);
    let mut source = recipe::files(&args.data, args.root.as_deref());
    if let Some(secs) = args.segment_secs {
        source.insert("segment_secs".to_owned(), secs.into());
    }
    let wishes = Wishes { source, clips: args.clips, order: "forward".to_owned(), batch: BATCH, workers: 0 };
    let clips = Clips::find(encoders.recipe.pipeline(&wishes), Choice::default())?;
    let mut pass = clips.embed(&encoders.networks)?;
    encoders::tell_skips(&clips, &pass);
    let items = pass.embeddings.pop().unwrap_or_default();
    let dim = items.first().map_or(0, |item| item.vector.len());
    let written = format!("{} rows of {dim}: {}", items.len(), args.out.display());
    if args.out.extension().is_some_and(|extension| extension == "parquet") {
        let encoder = encoders.networks.first().map_or_else(|| Ok(String::new()), Embedder::fingerprint)?;
        files::write_atomic(&args.out, &parquet(&items, &encoder)?)?;
        return Ok(written);
    }
    let table = args.out.with_extension("csv");
    files::write_atomic(&args.out, &array(&items))?;
    files::write_atomic(&table, &rows(&items, &table)?)?;
    Ok(format!("{written}, {}", table.display()))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &[Embedded], _: &str) -> Result<Vec<u8>, StageError> {
    let message =
        "this program was built without the feature `parquet`; write an `.npy`, or build it with the feature";
    Err(StageError::unavailable("embed", message))
}

/// NumPy's format, version 1.0: magic, header of a multiple of 64 bytes, then the rows as little-endian float32.
/// Source: `numpy.lib.format`.
fn array(items: &[Embedded]) -> Vec<u8> {
    let dim = items.first().map_or(0, |item| item.vector.len());
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}", items.len());
    let whole = (10 + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', whole - 10 - header.len() - 1));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(items.iter().flat_map(|item| &item.vector).flat_map(|value| value.to_le_bytes()));
    bytes
}

/// `row,id,path,label,group,split,start_secs,end_secs`; the id is that of the bank, in hexadecimal.
fn rows(items: &[Embedded], path: &Path) -> Result<Vec<u8>, StageError> {
    let failed = |error: csv::Error| {
        StageError::storage("embed", format!("cannot write `{}`: {error}", path.display()))
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["row", "id", "path", "label", "group", "split", "start_secs", "end_secs"];
    writer.write_record(header).map_err(failed)?;
    for (row, item) in items.iter().enumerate() {
        let segment = &item.segment;
        let (start, end) = item.span_secs;
        let record = [
            row.to_string(),
            format!("{:016x}", segment.id.0),
            segment.media.name.clone(),
            segment.label.as_deref().unwrap_or_default().to_owned(),
            segment.group.as_deref().unwrap_or_default().to_owned(),
            segment.split.as_deref().unwrap_or_default().to_owned(),
            format!("{start:.3}"),
            format!("{end:.3}"),
        ];
        writer.write_record(record).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| failed(error.into_error().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tests::segment_of;

    fn items() -> Vec<Embedded> {
        let item = |number: u64, vector: [f32; 3]| Embedded {
            segment: segment_of(number, 5),
            span_secs: (1.0, 2.5),
            vector: vector.to_vec(),
            scores: None,
        };
        vec![item(3, [1.0, 2.0, 3.0]), item(255, [-1.0, 0.5, 0.0])]
    }

    #[test]
    fn an_array_is_numpys() {
        let bytes = array(&items());
        let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
        assert_eq!((&bytes[..8], (10 + length) % 64), (b"\x93NUMPY\x01\x00".as_slice(), 0));
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } "));
        let values: Vec<f32> = bytes[10 + length..]
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        assert_eq!((values, header.ends_with('\n')), (vec![1.0, 2.0, 3.0, -1.0, 0.5, 0.0], true));
    }

    #[test]
    fn a_row_says_whose_it_is() {
        let text = String::from_utf8(rows(&items(), Path::new("x.csv")).unwrap()).unwrap();
        assert_eq!(
            text,
            "row,id,path,label,group,split,start_secs,end_secs\n\
             0,0000000000000003,3.mp4,,,,1.000,2.500\n\
             1,00000000000000ff,255.mp4,,,,1.000,2.500\n"
        );
    }
}
