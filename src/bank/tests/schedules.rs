//! The bank under orders of its threads' steps that a scheduler chooses, one random order a run.

use reelflow_api::bank::{BankKind, BankSettings, Staleness};
use reelflow_api::error::StageError;
use reelflow_api::rng::Key;
use shuttle::sync::mpsc::{Receiver, SyncSender, sync_channel};
use shuttle::thread::{self, JoinHandle};

use super::model::{Model, keys};
use crate::bank::{Bank, Rows, Wire};

/// Threads and channels of the scheduler.
struct Scheduled;

impl Wire for Scheduled {
    type Sender<T: Send + 'static> = SyncSender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Thread = JoinHandle<()>;

    fn channel<T: Send + 'static>(room: usize) -> (SyncSender<T>, Receiver<T>) {
        sync_channel(room.min(2))
    }

    fn send<T: Send + 'static>(to: &SyncSender<T>, thing: T) -> bool {
        to.send(thing).is_ok()
    }

    fn try_send<T: Send + 'static>(to: &SyncSender<T>, thing: T) -> bool {
        to.try_send(thing).is_ok()
    }

    fn receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.recv().ok()
    }

    fn try_receive<T: Send + 'static>(from: &Receiver<T>) -> Option<T> {
        from.try_recv().ok()
    }

    fn spawn(_: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StageError> {
        Ok(thread::spawn(work))
    }

    fn join(thread: JoinHandle<()>) {
        thread.join().unwrap();
    }
}

const ROWS: u32 = 5;
const STEPS: u64 = 5;

/// A short run: two keys a step, a forgotten segment, a checkpoint in the middle. What each step read.
fn run(bank: &mut Bank<Scheduled>, settings: &BankSettings, mut look: impl FnMut(u64, &Rows)) {
    let mut rng = Key::new(3).rng();
    let mut rows = Rows::empty(settings);
    for step in 0..STEPS {
        rows.apply(&bank.read(step).unwrap());
        look(step, &rows);
        bank.push(step, &[step as i64, 100], &keys(&mut rng, 2, 2)).unwrap();
        bank.prefetch(step + 1).unwrap();
        if step == 2 {
            bank.forget(&[1]).unwrap();
            let saved = bank.save().unwrap();
            bank.restore(&saved).unwrap();
        }
    }
}

/// The same by hand, one thing after the other.
fn expected(settings: &BankSettings) -> Vec<Rows> {
    let mut rng = Key::new(3).rng();
    let mut model = Model::new(settings, Key::new(1));
    let mut all = Vec::new();
    for step in 0..STEPS {
        all.push(model.read(step).clone());
        model.push(step, &[step as i64, 100], &keys(&mut rng, 2, 2));
        if step == 2 {
            model.forget(&[1]);
        }
    }
    all
}

fn settings(kind: BankKind, staleness: Staleness) -> BankSettings {
    BankSettings { shards: 3, staleness, kind, ..BankSettings::queue(ROWS, 2) }
}

#[test]
fn every_order_of_the_owners_steps_gives_the_same_rows() {
    for kind in [BankKind::Queue, BankKind::Instance { momentum: 0.5, negatives: 2 }] {
        for staleness in [1, 2] {
            let settings = settings(kind, Staleness::Steps(staleness));
            let expected = expected(&settings);
            let check = move || {
                let mut bank = Bank::<Scheduled>::open_on("keys", &settings, Key::new(1)).unwrap();
                run(&mut bank, &settings, |step, rows| {
                    assert_eq!(*rows, expected[step as usize], "step {step}")
                });
            };
            shuttle::check_pct(check.clone(), 300, 3);
            shuttle::check_random(check, 300);
        }
    }
}

#[test]
fn in_no_order_does_a_reader_that_never_waits_see_its_own_step_or_a_torn_row() {
    let settings = settings(BankKind::Queue, Staleness::ANY);
    let late = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = std::sync::Arc::clone(&late);
    let check = move || {
        let mut bank = Bank::<Scheduled>::open_on("keys", &settings, Key::new(1)).unwrap();
        let mut all = Vec::new();
        let mut rng = Key::new(3).rng();
        for _ in 0..STEPS {
            all.push(keys(&mut rng, 2, 2));
        }
        run(&mut bank, &settings, |step, rows| {
            assert!(rows.versions.iter().all(|version| *version < step as i64), "{step}: {rows:?}");
            for row in 0..ROWS as usize {
                let written = rows.versions[row].max(0) as usize;
                let first = written * 2 % ROWS as usize;
                let place = usize::from(row != first);
                if rows.ids[row] != -1 {
                    assert_eq!(rows.values[row * 2..row * 2 + 2], all[written][place * 2..place * 2 + 2]);
                }
            }
            let newest = rows.versions.iter().max().copied().unwrap_or(-1);
            seen.fetch_add(u64::from(newest + 1 < step as i64), std::sync::atomic::Ordering::Relaxed);
        });
    };
    shuttle::check_random(check, 1000);
    // Were it never behind, this would not have tested what it is for.
    assert!(late.load(std::sync::atomic::Ordering::Relaxed) > 0);
}
