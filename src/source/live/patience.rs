//! When to connect, when to stop believing in a connection, when to give up: states and deadlines, no clock.
//!
//! ```text
//! waiting ──time──▶ connecting ──frame──▶ playing
//!    ▲                  │ stall or fault      │ stall or fault
//!    └──────────────────┴─────────────────────┘
//! ```

use std::time::Duration;

/// First pause before connecting again. A camera that was switched off and on is back at once.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pause after a refusal that will not change by itself, such as a wrong password: cameras lock out who tries often.
const PAUSE_LASTING: Duration = Duration::from_secs(30);
/// A connection that played this long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(2);
/// Data without a picture are a sign of life for this many stall limits: a key frame may be long in coming.
const PICTURELESS: u32 = 6;

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Connect.
    Open,
    /// Close the connection: nothing came for too long.
    Stalled,
    /// End the feed: the source was away for too long.
    GiveUp,
    /// Nothing until then; for ever if `None`.
    Wait(Option<Duration>),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { until: Duration, is_stall: bool },
    Connecting { since: Duration, alive: Duration },
    Playing { first: Duration, last: Duration, alive: Duration },
    Ended,
}

/// See the module. Times are since the feed was started.
#[derive(Debug)]
pub struct Patience {
    stall: Option<Duration>,
    give_up: Option<Duration>,
    state: State,
    pause: Duration,
    /// When the last picture came; the start before any.
    last_seen: Duration,
}

impl Patience {
    /// `stall`: longest silence of a connection, `None` for sources that may take their time; `give_up`: longest
    /// absence.
    #[must_use]
    pub fn new(stall: Option<Duration>, give_up: Option<Duration>) -> Self {
        let state = State::Waiting { until: Duration::ZERO, is_stall: false };
        Self { stall, give_up, state, pause: PAUSE_MIN, last_seen: Duration::ZERO }
    }

    /// What to do at `now`.
    #[must_use]
    pub fn due(&self, now: Duration) -> Due {
        let end = self.give_up.map(|limit| self.last_seen + limit);
        if matches!(self.state, State::Ended) {
            return Due::Wait(None);
        }
        if end.is_some_and(|end| now >= end) {
            return Due::GiveUp;
        }
        let earliest = |times: [Option<Duration>; 2]| Due::Wait(times.into_iter().flatten().min());
        match self.state {
            State::Waiting { until, .. } if now >= until => Due::Open,
            State::Waiting { until, .. } => earliest([Some(until), end]),
            _ => match self.silence_ends() {
                Some(stall) if now >= stall => Due::Stalled,
                stall => earliest([stall, end]),
            },
        }
    }

    /// When the connection counts as stalled if nothing comes.
    fn silence_ends(&self) -> Option<Duration> {
        let stall = self.stall?;
        let (alive, picture) = match self.state {
            State::Connecting { since, alive } => (alive, since),
            State::Playing { last, alive, .. } => (alive, last),
            _ => return None,
        };
        Some((alive + stall).min(picture + PICTURELESS * stall))
    }

    /// A connection is being made.
    pub fn opened(&mut self, now: Duration) {
        self.state = State::Connecting { since: now, alive: now };
    }

    /// Something came that is no picture yet.
    pub fn alive(&mut self, at: Duration) {
        if let State::Connecting { alive, .. } | State::Playing { alive, .. } = &mut self.state {
            *alive = at.max(*alive);
        }
    }

    /// A picture came.
    pub fn frame(&mut self, now: Duration) {
        let first = if let State::Playing { first, .. } = self.state { first } else { now };
        self.state = State::Playing { first, last: now, alive: now };
        self.last_seen = now;
    }

    /// The connection is over.
    pub fn lost(&mut self, now: Duration, is_lasting: bool, is_stall: bool) {
        if let State::Playing { first, last, .. } = self.state
            && last - first >= GOOD
        {
            self.pause = PAUSE_MIN;
        }
        let pause = if is_lasting { PAUSE_LASTING } else { self.pause };
        self.state = State::Waiting { until: now + pause, is_stall };
        self.pause = (self.pause * 3 / 2).min(PAUSE_MAX);
    }

    /// The feed is over.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    /// For people and metrics.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Waiting { is_stall: true, .. } => "stalled",
            State::Waiting { .. } => "waiting",
            State::Connecting { .. } => "connecting",
            State::Playing { .. } => "playing",
            State::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn patience(give_up: Option<u64>) -> Patience {
        Patience::new(Some(ms(10_000)), give_up.map(ms))
    }

    #[test]
    fn a_silent_connection_is_stalled_after_the_limit_and_made_again() {
        let mut patience = patience(None);
        assert_eq!((patience.due(ms(0)), patience.state()), (Due::Open, "waiting"));
        patience.opened(ms(0));
        assert_eq!((patience.due(ms(9_999)), patience.state()), (Due::Wait(Some(ms(10_000))), "connecting"));
        patience.frame(ms(5_000));
        assert_eq!((patience.due(ms(14_999)), patience.state()), (Due::Wait(Some(ms(15_000))), "playing"));
        assert_eq!(patience.due(ms(15_000)), Due::Stalled);
        patience.lost(ms(15_000), false, true);
        assert_eq!((patience.due(ms(15_000)), patience.state()), (Due::Wait(Some(ms(15_500))), "stalled"));
        assert_eq!(patience.due(ms(15_500)), Due::Open);
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_shrink_after_a_good_connection() {
        let mut patience = patience(None);
        let mut now = ms(0);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            patience.opened(now);
            patience.lost(now, false, false);
            let Due::Wait(Some(until)) = patience.due(now) else { panic!("it waits") };
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses[..4], [500, 750, 1125, 1687]);
        assert_eq!(pauses[12..], [30_000, 30_000]);
        // A single frame is no good connection, two seconds are.
        for (played, pause) in [(0, 30_000), (2_000, 500)] {
            patience.opened(now);
            patience.frame(now);
            patience.frame(now + ms(played));
            now += ms(played);
            patience.lost(now, false, false);
            assert_eq!(patience.due(now), Due::Wait(Some(now + ms(pause))), "played for {played} ms");
        }
    }

    #[test]
    fn after_a_refusal_the_pause_is_long() {
        let mut patience = patience(None);
        patience.opened(ms(0));
        patience.lost(ms(10), true, false);
        assert_eq!(patience.due(ms(10)), Due::Wait(Some(ms(30_010))));
    }

    #[test]
    fn data_without_pictures_are_a_sign_of_life_but_not_for_ever() {
        let mut patience = patience(None);
        patience.opened(ms(0));
        patience.alive(ms(8_000));
        assert_eq!(patience.due(ms(10_000)), Due::Wait(Some(ms(18_000))));
        patience.alive(ms(59_000));
        assert_eq!(patience.due(ms(59_999)), Due::Wait(Some(ms(60_000))));
        assert_eq!(patience.due(ms(60_000)), Due::Stalled);
    }

    #[test]
    fn absence_ends_where_it_is_limited() {
        let mut patience = patience(Some(20_000));
        patience.opened(ms(0));
        patience.frame(ms(1_000));
        patience.lost(ms(2_000), true, false);
        assert_eq!(patience.due(ms(2_000)), Due::Wait(Some(ms(21_000))));
        assert_eq!(patience.due(ms(21_000)), Due::GiveUp);
        patience.end();
        assert_eq!((patience.due(ms(99_000)), patience.state()), (Due::Wait(None), "ended"));
    }

    #[test]
    fn sources_that_end_may_take_their_time() {
        let mut patience = Patience::new(None, None);
        patience.opened(ms(0));
        assert_eq!(patience.due(ms(1_000_000)), Due::Wait(None));
    }
}
