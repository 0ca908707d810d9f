//! Lists of every kind, as published and as people write them.

use super::*;

/// Files that are there beside the list, and the list's entries with paths relative to it.
fn read_beside(files: &[&str], name: &str, text: &str) -> Result<Vec<Entry>, StageError> {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "x").unwrap();
    }
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let mut entries = read(&path, None)?;
    for entry in &mut entries {
        entry.path = entry.path.strip_prefix(dir.path()).unwrap_or(&entry.path).to_owned();
    }
    Ok(entries)
}

fn read_text(name: &str, text: &str) -> Result<Vec<Entry>, StageError> {
    read_beside(&["a.mp4"], name, text)
}

/// One word an entry: `path label split group start-end`, `-` where there is nothing.
fn words(entries: &[Entry]) -> Vec<String> {
    let word = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("-").to_owned();
    let line = |entry: &Entry| {
        let span = entry.span_secs.map_or("-".to_owned(), |(start, end)| format!("{start}-{end}"));
        let path = entry.path.to_string_lossy().into_owned();
        [path, word(&entry.label), word(&entry.split), word(&entry.group), span].join(" | ")
    };
    entries.iter().map(line).collect()
}

#[track_caller]
fn check_refused(name: &str, text: &str, message: &str) {
    let error = read_text(name, text).unwrap_err();
    assert_eq!(error.code, 78);
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn a_plain_list_may_have_a_mark_crlf_blank_lines_and_comments() {
    let entries = read_text("l.txt", "\u{feff}a.mp4\r\n\r\n# no\r\nnone.mp4\r\n").unwrap();
    assert_eq!(words(&entries), ["a.mp4 | - | - | - | -", "none.mp4 | - | - | - | -"]);
}

#[test]
fn a_table_gives_labels_splits_groups_and_ranges() {
    let text = "file\tnote\tlabel\tgroup\tstart_secs\tend_secs\na.mp4\tx\tfall\tcam 1\t1.5\t\n";
    let entry = &read_text("l.tsv", text).unwrap()[0];
    assert_eq!((entry.label.as_deref(), entry.group.as_deref()), (Some("fall"), Some("cam 1")));
    assert_eq!((entry.split.as_deref(), entry.span_secs), (None, Some((1.5, f64::MAX))));
}

#[test]
fn ranges_of_one_file_go_by_other_names_too() {
    let text = "video\tstart_s\tend_s\tlabel\na.mp4\t4.06\t7.13\twalk\na.mp4\t7.13\t9.47\tsitdown\n";
    let expected = ["a.mp4 | walk | - | - | 4.06-7.13", "a.mp4 | sitdown | - | - | 7.13-9.47"];
    assert_eq!(words(&read_text("segments.tsv", text).unwrap()), expected);
    let csv = "path,label,start,end\na.mp4,walk,4.06,7.13\na.mp4,sitdown,7.13,9.47\n";
    assert_eq!(words(&read_text("segments.csv", csv).unwrap()), expected);
}

#[test]
fn a_table_that_does_not_fit_is_refused_with_its_line() {
    check_refused("l.csv", "name,label\na,b\n", "l.csv:1: has no column `path`");
    check_refused("l.csv", "path,start_secs\na.mp4,0\na.mp4,soon\n", "l.csv:3: `soon`");
    check_refused("l.csv", "path,start_secs,end_secs\n\"a.mp4\",2,1\n", "l.csv:2: the range 2 to 1");
    check_refused("l.csv", "path,label\n,b\n", "l.csv:2: column `path`");
}

#[test]
fn ucf101_names_class_split_and_recording() {
    let files = ["classInd.txt", "Archery/v_Archery_g08_c01.avi"];
    let train = "Archery/v_Archery_g08_c01.avi 3\r\n";
    let entries = read_beside(&files[1..], "trainlist01.txt", train).unwrap();
    assert_eq!(words(&entries), ["Archery/v_Archery_g08_c01.avi | Archery | train | Archery g08 | -"]);
    let entries = read_beside(&files[1..], "testlist02.txt", "Archery/v_Archery_g08_c01.avi\n").unwrap();
    assert_eq!(entries[0].split.as_deref(), Some("test"));
    check_refused(
        "trainlist01.txt",
        "Archery/v.avi 3\nv_Archery.avi 3\n",
        "trainlist01.txt:2: `v_Archery.avi 3`",
    );
    check_refused("trainlist01.txt", "Archery/v.avi three\n", "trainlist01.txt:1: `three`");
}

#[test]
fn ucf101_numbers_must_be_those_of_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("classInd.txt", "1 ApplyEyeMakeup\r\n3 Archery\r\n");
    write("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 3\nArchery/v_Archery_g08_c02.avi 1\n");
    let error = read(&dir.path().join("trainlist01.txt"), None).unwrap_err().message;
    assert!(
        error.contains("trainlist01.txt:2: class 1 is ApplyEyeMakeup in classInd.txt, the folder is Archery"),
        "{error}"
    );
    write("classInd.txt", "Archery\n");
    let error = read(&dir.path().join("trainlist01.txt"), None).unwrap_err().message;
    assert!(error.contains("classInd.txt:1: `Archery`"), "{error}");
}

#[test]
fn hmdb51_takes_the_class_of_its_name() {
    let files = ["brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "b.avi"];
    let text = "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \nb.avi 2 \ngone.avi 0 \n";
    let entries = read_beside(&files, "brush_hair_test_split1.txt", text).unwrap();
    assert_eq!(
        words(&entries),
        [
            "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi | brush_hair | train | - | -",
            "b.avi | brush_hair | test | - | -",
            "brush_hair/gone.avi | brush_hair | - | - | -",
        ]
    );
    check_refused("turn_test_split3.txt", "a.avi 1\na.avi 3\n", "turn_test_split3.txt:2: `a.avi 3`");
}

#[test]
fn kinetics_clips_are_found_by_id_and_times() {
    let files = ["train/high_jump/abc_000010_000020.mp4", "x-y_000003_000013.webm"];
    let text = "label,youtube_id,time_start,time_end,split\n\"high jump\",abc,10,20,train\ncurling,x-y,3,13,train\n\
                curling,gone,5,15,val\n";
    assert_eq!(
        words(&read_beside(&files, "kinetics.csv", text).unwrap()),
        [
            "train/high_jump/abc_000010_000020.mp4 | high jump | train | - | -",
            "x-y_000003_000013.webm | curling | train | - | -",
            "gone_000005_000015.mp4 | curling | val | - | -",
        ]
    );
    check_refused(
        "k.csv",
        "youtube_id,time_start,time_end\nabc,10,\n",
        "k.csv:2: `time_start` and `time_end`",
    );
    check_refused("k.csv", "youtube_id,time_start,time_end\n,10,20\n", "k.csv:2: column `youtube_id`");
}

#[test]
fn files_may_lie_below_another_root() {
    let (lists, media) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(media.path().join("Archery")).unwrap();
    std::fs::write(media.path().join("Archery/v_Archery_g01_c01.avi"), "x").unwrap();
    let list = lists.path().join("testlist01.txt");
    std::fs::write(&list, "Archery/v_Archery_g01_c01.avi\nArchery/gone.avi\n").unwrap();
    let entries = read(&list, Some(media.path())).unwrap();
    assert_eq!(entries[0].path, media.path().join("Archery/v_Archery_g01_c01.avi"));
    assert_eq!(entries[1].path, media.path().join("Archery/gone.avi"));
}
