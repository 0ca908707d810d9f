//! Takes windows, boxes, flips and jitter from a file, so that an experiment can be repeated exactly.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use reelflow_api::error::StageError;
use reelflow_api::item::{Catalogue, ClipPlan, Media, SamplePlan, Segment};
use reelflow_api::rng::Key;
use reelflow_api::spec::{Kind, Output, Port, Problem, Settings, Spec, Table, read, schema_of};
use reelflow_api::stage::{Place, Sampler, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan_file::{self, FORM, Line};
use crate::edge::files;

/// How `plan` describes itself.
pub const SPEC: Spec = Spec {
    name: "plan",
    kind: Kind::Operator,
    summary: "Takes windows, boxes, flips and jitter from a file, a line a clip: view `clip`.",
    accepts: &[Port::Segments],
    output: Output::Carries(Port::Clips),
    example: "plan = \"tests/data/plan.txt\"\nframes = 16\nstride = 2",
    schema: schema_of::<PlanSettings>,
    build,
};

/// Wrong lines that are told; who makes plans by a program makes the same mistake on every line.
const TOLD: usize = 10;

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct PlanSettings {
    /// Text file with a clip a line: PATH, a tab, then START X Y W H FLIP BRIGHTNESS CONTRAST SATURATION.
    /// START counts the medium's frames from 0; the box is in pixels of the upright picture and takes the
    /// place of what `random_resized_crop` would draw; FLIP (0 or 1) that of `flip`; the factors those of
    /// `colour_jitter`. A path is looked for beside the plan, then from the current folder, and means the
    /// medium of that file however the source writes it.
    plan: PathBuf,
    /// Frames of every window.
    #[serde(default = "frames")]
    #[schemars(range(min = 1, max = 4096))]
    frames: u32,
    /// Frames from one picked frame to the next.
    #[serde(default = "stride")]
    #[schemars(range(min = 1, max = 65536))]
    stride: u32,
}

fn frames() -> u32 {
    16
}

fn stride() -> u32 {
    2
}

impl Settings for PlanSettings {}

fn build(table: &Table<'_>) -> Result<Stage, Vec<Problem>> {
    let settings = read::<PlanSettings>(table)?;
    let problem = |what: String| {
        let help = format!("a line is `{FORM}`");
        Problem::new("P033", table.span_of("plan"), format!("`{}.plan`: {what}", table.path)).help(help)
    };
    match open(&settings.plan) {
        Ok((lines, checksum)) => {
            let planned = Planned { settings, lines, checksum, targets: OnceLock::new() };
            Ok(Stage::Sampler(Box::new(planned)))
        }
        Err(found) => Err(found.into_iter().map(problem).collect()),
    }
}

/// The lines of a plan file, at least one, and the checksum of its content.
fn open(file: &Path) -> Result<(Vec<Line>, String), Vec<String>> {
    let bytes = files::read(file).map_err(|error| vec![error.message])?;
    let name = file.display();
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![format!("{name}:{line}: the line is not UTF-8; save the file as UTF-8")]
    })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let lines = plan_file::read(text, folder).map_err(|wrong| {
        let told = wrong.iter().take(TOLD).map(|(line, what)| format!("{name}:{line}: {what}"));
        let rest = wrong.len().saturating_sub(TOLD);
        told.chain((rest > 0).then(|| format!("{name}: {rest} more lines are wrong"))).collect::<Vec<_>>()
    })?;
    if lines.is_empty() {
        return Err(vec![format!("{name}:1: the file is empty; write a clip a line")]);
    }
    Ok((lines, files::checksum(&bytes)))
}

struct Planned {
    settings: PlanSettings,
    lines: Vec<Line>,
    /// Of the file's content.
    checksum: String,
    /// Where each line's window lies, or what is wrong with the first that lies nowhere. Found once: a
    /// sampler is given one catalogue only.
    targets: OnceLock<Result<Vec<Target>, String>>,
}

/// A window in the catalogue.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Index of the segment.
    segment: usize,
    /// Number of the first frame within the segment.
    start: u32,
}

impl Sampler for Planned {
    fn views(&self) -> Vec<(Arc<str>, u32)> {
        vec![(Arc::from("clip"), self.settings.frames)]
    }

    /// A medium that is too short for its line is a mistake in the plan, not one that may be left out.
    fn frames_min(&self) -> u32 {
        1
    }

    fn samples(&self, _: &Catalogue) -> Option<u64> {
        Some(self.lines.len() as u64)
    }

    fn check(&self, catalogue: &Catalogue) -> Result<(), StageError> {
        match self.targets(catalogue) {
            Ok(_) => Ok(()),
            Err(what) => Err(StageError::refused("plan", what.clone())),
        }
    }

    fn files(&self) -> Vec<(PathBuf, String)> {
        vec![(self.settings.plan.clone(), self.checksum.clone())]
    }

    /// Sample `n` is line `n`. There is no second attempt: another window would not be the one that was
    /// asked for, so a window that cannot be decoded leaves its slot empty.
    fn plan(&self, catalogue: &Catalogue, place: Place, _: Key) -> Option<SamplePlan> {
        if place.attempt > 0 {
            return None;
        }
        let number = usize::try_from(place.ordinal()).ok()?;
        let line = self.lines.get(number)?;
        let target = self.targets(catalogue).as_ref().ok()?[number];
        let PlanSettings { frames, stride, .. } = self.settings;
        let frames = (0..frames).map(|index| target.start + index * stride).collect();
        Some(SamplePlan {
            step: place.step,
            slot: place.slot,
            attempt: 0,
            segment: Arc::clone(&catalogue.segments[target.segment]),
            clips: vec![ClipPlan { view: Arc::from("clip"), frames, given: Some(line.given) }],
        })
    }
}

impl Planned {
    fn targets(&self, catalogue: &Catalogue) -> &Result<Vec<Target>, String> {
        self.targets.get_or_init(|| {
            let places = Places::of(catalogue);
            let target = |(index, line): (usize, &Line)| {
                let place = format!("{}:{}", self.settings.plan.display(), index + 1);
                self.target(line, catalogue, &places).map_err(|what| format!("{place}: {what}"))
            };
            self.lines.iter().enumerate().map(target).collect()
        })
    }

    fn target(&self, line: &Line, catalogue: &Catalogue, places: &Places) -> Result<Target, String> {
        let found = places.find(&line.path);
        let Some(&first) = found.first() else {
            return Err(format!(
                "`{}` is none of the media that the inputs gave, or was left out as unusable; list it in \
                 the source's `paths`",
                line.path.display()
            ));
        };
        let PlanSettings { frames, stride, .. } = self.settings;
        let media = &catalogue.segments[first].media;
        let (count, span) = (media.times.len() as u64, u64::from(frames - 1) * u64::from(stride) + 1);
        let end = u64::from(line.start) + span;
        if end > count {
            let remedy = match count.checked_sub(span) {
                Some(last) => format!("start at {last} or earlier"),
                None => "choose a smaller `frames` or `stride`, or another medium".to_owned(),
            };
            let start = line.start;
            return Err(format!(
                "the window from frame {start} to {} runs past the last frame, {}; {remedy}",
                end - 1,
                count - 1
            ));
        }
        check_box(line.given.crop, media)?;
        let holds = |segment: &Segment| {
            let first = u64::from(segment.first);
            first <= u64::from(line.start) && end <= first + u64::from(segment.count)
        };
        let segment = found.iter().copied().find(|&index| holds(&catalogue.segments[index]));
        let segment = segment.ok_or_else(|| {
            format!(
                "frames {} to {} do not lie in one segment; remove `segment_secs` from the source, or the \
                 time range from its list",
                line.start,
                end - 1
            )
        })?;
        Ok(Target { segment, start: line.start - catalogue.segments[segment].first })
    }
}

fn check_box([x, y, w, h]: [u32; 4], media: &Media) -> Result<(), String> {
    let is_turned = media.orientation.quarter_turns % 2 == 1;
    let (width, height) = if is_turned { (media.height, media.width) } else { (media.width, media.height) };
    let fits = |from: u32, side: u32, whole: u32| from.checked_add(side).is_some_and(|to| to <= whole);
    if fits(x, w, width) && fits(y, h, height) {
        return Ok(());
    }
    Err(format!(
        "the box {w}x{h} at {x},{y} leaves the picture of {width}x{height}; keep x + w within {width} and \
         y + h within {height}"
    ))
}

/// Indices of the segments of each medium.
struct Places {
    /// By absolute path as the source lists it, or by name where there is no file.
    listed: HashMap<PathBuf, Vec<usize>>,
    /// By the path of the file itself, links followed; the first medium of several with one file.
    files: HashMap<PathBuf, Vec<usize>>,
}

impl Places {
    fn of(catalogue: &Catalogue) -> Self {
        let mut listed: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (index, segment) in catalogue.segments.iter().enumerate() {
            let media = &segment.media;
            let path = media.origin.path().map_or_else(|| PathBuf::from(&media.name), |path| absolute(&path));
            listed.entry(path).or_default().push(index);
        }
        let mut media: Vec<(&PathBuf, &Vec<usize>)> = listed.iter().collect();
        media.sort_by_key(|(_, segments)| segments[0]);
        let mut files = HashMap::new();
        for (path, segments) in media {
            if let Ok(file) = path.canonicalize() {
                files.entry(file).or_insert_with(|| segments.clone());
            }
        }
        Self { listed, files }
    }

    fn find(&self, path: &Path) -> &[usize] {
        let by_name = || self.listed.get(path);
        let by_file = || self.files.get(&path.canonicalize().ok()?);
        self.listed.get(&absolute(path)).or_else(by_name).or_else(by_file).map_or(&[], Vec::as_slice)
    }
}

/// With the current folder in front where it is relative, and without `.` in between; links stay.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::{Given, Orientation, Origin};

    use super::*;
    use crate::sample::fixture;

    /// A sampler over a plan of these lines, 4 frames with stride 3: windows of 10 frames.
    fn planned(lines: &[&str]) -> Planned {
        let lines = plan_file::read(&lines.join("\n"), Path::new("")).unwrap();
        let settings = PlanSettings { plan: "plan.txt".into(), frames: 4, stride: 3 };
        Planned { settings, lines, checksum: String::new(), targets: OnceLock::new() }
    }

    /// The catalogue with its first medium changed.
    fn changed(lengths: &[u32], change: impl Fn(&mut Media)) -> Catalogue {
        let mut catalogue = fixture::catalogue(lengths);
        let mut segment = Segment::clone(&catalogue.segments[0]);
        change(Arc::make_mut(&mut segment.media));
        catalogue.segments[0] = Arc::new(segment);
        catalogue
    }

    #[track_caller]
    fn refused(line: &str, catalogue: &Catalogue, expected: &str) {
        let good = "pattern:1\t0 0 0 9 9 0 1 1 1";
        let error = planned(&[good, line]).check(catalogue).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (78, format!("plan.txt:2: {expected}").as_str()));
    }

    #[test]
    fn sample_n_is_line_n_and_then_it_ends() {
        let catalogue = fixture::catalogue(&[40, 60]);
        let sampler = planned(&[
            "pattern:1\t50 0 0 9 9 1 1 1 0.5",
            "pattern:0\t0 1 2 3 4 0 1 1 1",
            "pattern:1\t0 0 0 9 9 0 1 1 1",
        ]);
        sampler.check(&catalogue).unwrap();
        assert_eq!(sampler.samples(&catalogue), Some(3));
        let plan = |step, slot, attempt| {
            sampler.plan(&catalogue, fixture::place(step, slot, 2, attempt), Key::new(1))
        };
        let first = plan(0, 0, 0).unwrap();
        assert_eq!((first.segment.id.0, first.clips[0].frames.as_slice()), (1, [50, 53, 56, 59].as_slice()));
        let (brightness, contrast, saturation) = (1.0, 1.0, 0.5);
        let given = Given { crop: [0, 0, 9, 9], flip: true, brightness, contrast, saturation };
        assert_eq!(first.clips[0].given, Some(given));
        assert_eq!(plan(0, 1, 0).unwrap().clips[0].given.unwrap().crop, [1, 2, 3, 4]);
        assert!(plan(1, 0, 0).is_some() && plan(1, 1, 0).is_none() && plan(0, 0, 1).is_none());
    }

    #[test]
    fn windows_of_cut_media_count_from_the_start_of_the_medium() {
        let mut catalogue = fixture::catalogue(&[40]);
        let whole = Segment::clone(&catalogue.segments[0]);
        let piece = |first| Arc::new(Segment { first, count: 20, ..whole.clone() });
        catalogue.segments = vec![piece(0), piece(20)];
        let sampler = planned(&["pattern:0\t25 0 0 9 9 0 1 1 1"]);
        let plan = sampler.plan(&catalogue, fixture::place(0, 0, 1, 0), Key::new(1)).unwrap();
        assert_eq!((plan.segment.first, plan.clips[0].frames.as_slice()), (20, [5, 8, 11, 14].as_slice()));
        let error = planned(&["pattern:0\t15 0 0 9 9 0 1 1 1"]).check(&catalogue).unwrap_err();
        assert!(
            error.message.starts_with("plan.txt:1: frames 15 to 24 do not lie in one segment"),
            "{error}"
        );
    }

    #[test]
    fn a_line_that_does_not_fit_the_media_is_refused_with_its_remedy() {
        let catalogue = fixture::catalogue(&[5, 60]);
        refused(
            "pattern:1\t51 0 0 9 9 0 1 1 1",
            &catalogue,
            "the window from frame 51 to 60 runs past the last frame, 59; start at 50 or earlier",
        );
        refused(
            "pattern:0\t0 0 0 9 9 0 1 1 1",
            &catalogue,
            "the window from frame 0 to 9 runs past the last frame, 4; choose a smaller `frames` or `stride`, \
             or another medium",
        );
        refused(
            "pattern:1\t0 4 0 29 9 0 1 1 1",
            &catalogue,
            "the box 29x9 at 4,0 leaves the picture of 32x24; keep x + w within 32 and y + h within 24",
        );
        refused(
            "a.mp4\t0 0 0 9 9 0 1 1 1",
            &catalogue,
            "`a.mp4` is none of the media that the inputs gave, or was left out as unusable; list it in the \
             source's `paths`",
        );
    }

    #[test]
    fn boxes_are_those_of_the_upright_picture() {
        let catalogue = changed(&[60, 60], |media| {
            media.orientation = Orientation { quarter_turns: 1, mirror: false };
        });
        planned(&["pattern:0\t0 0 0 24 32 0 1 1 1"]).check(&catalogue).unwrap();
        refused(
            "pattern:0\t0 0 0 32 24 0 1 1 1",
            &catalogue,
            "the box 32x24 at 0,0 leaves the picture of 24x32; keep x + w within 24 and y + h within 32",
        );
    }

    #[test]
    fn a_path_means_its_file_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a.mp4"), dir.path().join("link.mp4"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let dotted = dir.path().join("./a.mp4");
        for (listed, written) in [(&file, &link), (&link, &file), (&file, &dotted), (&dotted, &file)] {
            let catalogue = changed(&[60], |media| media.origin = Origin::File(listed.clone()));
            let line = format!("{}\t0 0 0 9 9 0 1 1 1", written.display());
            planned(&[&line]).check(&catalogue).unwrap();
        }
    }

    #[test]
    fn a_plan_file_is_read_when_the_stage_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.txt");
        let text = format!("plan = {:?}", file.display().to_string());
        let refused = || match build(&fixture::table(&text)) {
            Ok(_) => panic!("accepted"),
            Err(problems) => problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>(),
        };
        assert!(refused()[0].contains("cannot read"), "{:?}", refused());
        std::fs::write(&file, "").unwrap();
        assert!(refused()[0].ends_with("plan.txt:1: the file is empty; write a clip a line"));
        std::fs::write(&file, "a\n".repeat(30)).unwrap();
        assert_eq!(refused().len(), TOLD + 1);
        assert!(refused()[TOLD].ends_with("plan.txt: 20 more lines are wrong"));
        std::fs::write(&file, "a.mp4\t0 0 0 9 9 0 1 1 1\n").unwrap();
        assert_eq!(fixture::build(&SPEC, &text).views(), [(Arc::from("clip"), 16)]);
    }
}
