//! `reelflow synth`: makes a small labelled corpus whose classes only time tells apart.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::edge::clock;
use crate::testing::synth::corpus::{self, Arguments, Made};
use crate::testing::synth::laws::{self, Law};

/// Arguments of `reelflow synth`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the corpus; it gets train/, test/, labels.csv and classes.json.
    out: PathBuf,
    /// Real videos, or folders of them, that textures are taken from.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    from: Vec<PathBuf>,
    /// How many classes (the first N of 16), or their names with commas between.
    #[arg(long, default_value = "8", value_name = "N|NAMES", value_parser = laws::select)]
    classes: Classes,
    /// Training videos of each class.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    train: u32,
    /// Test videos of each class.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    test: u32,
    /// Width and height in pixels, even.
    #[arg(long, default_value_t = 64, value_parser = even_size)]
    size: u32,
    /// Frames of each video.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    frames: u32,
    /// Frames a second.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=240))]
    fps: u32,
    /// Root of all chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace a corpus that is there.
    #[arg(long)]
    force: bool,
}

/// Named, because clap takes a plain `Vec` for an argument that is given several times.
type Classes = Vec<&'static Law>;

fn even_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size @ 16..=1024) if u32::is_multiple_of(size, 2) => Ok(size),
        _ => Err("an even number from 16 to 1024".to_owned()),
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let arguments = Arguments {
        classes: args.classes.iter().map(|law| law.name.to_owned()).collect(),
        from: args.from.clone(),
        train: args.train,
        test: args.test,
        size: args.size,
        frames: args.frames,
        fps: args.fps,
        seed: args.seed,
    };
    let start = clock::now();
    match corpus::make(&args.out, &arguments, args.force, &|line| eprintln!("{line}")) {
        Ok(Made::Fresh(bytes)) => {
            eprintln!("{:.1} MB of video in {:.1} s", bytes as f64 / 1e6, start.elapsed().as_secs_f64());
        }
        Ok(Made::Kept) => {
            eprintln!("nothing to do: it was made with equal arguments; --force makes it again")
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(error.code);
        }
    }
    let (videos, classes) = ((args.train + args.test) as usize * args.classes.len(), args.classes.len());
    super::say(&format!("corpus {}: {videos} videos, {classes} classes", args.out.display()));
    ExitCode::SUCCESS
}
