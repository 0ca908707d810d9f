//! The sixteen laws of motion that are the classes, each a list of poses, one a frame.
//!
//! Pixel values are for pictures of 128x128 and scale with the size. Every law shows within 16 to 24 frames,
//! but the slow swing, whose period is up to 36.

use std::f64::consts::TAU;

use reelflow_api::rng::Key;

/// Range of the natural logarithm of the scale: x0.75 to x1.5.
pub const LOG_SCALE: (f64, f64) = (-0.287_682_072_451_780_9, 0.405_465_108_108_164_4);

/// Where the content is in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    /// Shift to the right since the first frame, pixels.
    pub x: f64,
    /// Shift down since the first frame, pixels.
    pub y: f64,
    /// Turn clockwise, radians.
    pub angle: f64,
    /// Natural logarithm of the scale.
    pub log_scale: f64,
}

/// What a law leaves open; matched twins share it.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Angle of the first frame, radians.
    pub angle: f64,
    /// Scale of the first frame as a share of [`LOG_SCALE`], 0 to 1.
    pub scale: f64,
    /// Direction of laws that have none of their own, radians.
    pub direction: f64,
    /// Where ramps, swings and events begin, 0 to 1.
    pub phase: f64,
    /// Where in its range the law's rate is, 0 to 1.
    pub rate: f64,
    /// Spins turn clockwise.
    pub clockwise: bool,
}

impl Draw {
    /// Draws everything from `key`.
    #[must_use]
    pub fn new(key: Key) -> Self {
        let mut rng = key.rng();
        Self {
            angle: rng.range(0.0, TAU),
            scale: rng.unit(),
            direction: rng.range(0.0, TAU),
            phase: rng.unit(),
            rate: rng.unit(),
            clockwise: rng.chance(0.5),
        }
    }

    fn between(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.rate
    }
}

/// One class.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    /// The label.
    pub name: &'static str,
    /// Laws of one family differ in one thing only.
    pub family: &'static str,
    /// The class that the same video played backwards has.
    pub reversed: &'static str,
    motion: Motion,
}

/// Rates are ranges; [`Draw::rate`] chooses.
#[derive(Clone, Copy, Debug)]
enum Motion {
    /// 1.2 to 2.4 px a frame in a fixed direction.
    Pan(f64, f64),
    /// 2.5 to 5 degrees a frame; 1 is clockwise.
    Rotate(f64),
    /// Through the whole of [`LOG_SCALE`] in 18 to 30 frames, again and again.
    Zoom { closer: bool },
    /// Pixels a frame, in any direction.
    Speed(f64, f64),
    /// Speed changes 40-fold within 14 to 18 frames, again and again.
    Ramp { faster: bool },
    /// A sine of 5 to 8 px with a period of so many frames.
    Swing(f64, f64),
    /// Moving, spinning and resting for 6 to 8 frames each, again and again.
    Events([Event; 3]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Move,
    Spin,
    Rest,
}

const fn law(name: &'static str, family: &'static str, reversed: &'static str, motion: Motion) -> Law {
    Law { name, family, reversed, motion }
}

/// All laws; a corpus of N classes has the first N.
pub const LAWS: [Law; 16] = [
    law("pan_right", "pan", "pan_left", Motion::Pan(1.0, 0.0)),
    law("pan_left", "pan", "pan_right", Motion::Pan(-1.0, 0.0)),
    law("pan_down", "pan", "pan_up", Motion::Pan(0.0, 1.0)),
    law("pan_up", "pan", "pan_down", Motion::Pan(0.0, -1.0)),
    law("rotate_cw", "rotate", "rotate_ccw", Motion::Rotate(1.0)),
    law("rotate_ccw", "rotate", "rotate_cw", Motion::Rotate(-1.0)),
    law("zoom_in", "zoom", "zoom_out", Motion::Zoom { closer: true }),
    law("zoom_out", "zoom", "zoom_in", Motion::Zoom { closer: false }),
    law("speed_slow", "speed", "speed_slow", Motion::Speed(0.35, 0.7)),
    law("speed_fast", "speed", "speed_fast", Motion::Speed(3.5, 5.0)),
    law("accelerate", "ramp", "decelerate", Motion::Ramp { faster: true }),
    law("decelerate", "ramp", "accelerate", Motion::Ramp { faster: false }),
    law("swing_slow", "period", "swing_slow", Motion::Swing(28.0, 36.0)),
    law("swing_fast", "period", "swing_fast", Motion::Swing(7.0, 9.0)),
    law("move_spin_rest", "order", "spin_move_rest", Motion::Events([Event::Move, Event::Spin, Event::Rest])),
    law("spin_move_rest", "order", "move_spin_rest", Motion::Events([Event::Spin, Event::Move, Event::Rest])),
];

/// The classes a person asked for: a number of them (the first ones), or names with commas between.
///
/// # Errors
/// One line with what is possible instead.
pub fn select(text: &str) -> Result<Vec<&'static Law>, String> {
    if let Ok(count) = text.trim().parse::<usize>() {
        return match LAWS.get(..count) {
            Some(laws) if count > 0 => Ok(laws.iter().collect()),
            _ => Err(format!("{count} classes, but there are 1 to {}", LAWS.len())),
        };
    }
    let mut laws: Vec<&Law> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let Some(found) = LAWS.iter().find(|law| law.name == name) else {
            let names: Vec<&str> = LAWS.iter().map(|law| law.name).collect();
            return Err(format!("no class `{name}`; choose from {}", names.join(", ")));
        };
        if laws.iter().any(|law| law.name == name) {
            return Err(format!("class `{name}` is named twice"));
        }
        laws.push(found);
    }
    Ok(laws)
}

/// The share of a saw-tooth that starts at `start` and takes `period` frames, 0 to 1, at `frame`.
fn saw(start: f64, frame: f64, period: f64) -> f64 {
    (start + frame / period).rem_euclid(1.0)
}

impl Law {
    /// Poses of `frames` frames of a picture of `size` pixels. The first is the same for all laws: no shift,
    /// the draw's angle and scale.
    #[must_use]
    pub fn poses(&self, draw: &Draw, frames: u32, size: u32) -> Vec<Pose> {
        let unit = f64::from(size) / 128.0;
        let (dx, dy) = match self.motion {
            Motion::Pan(dx, dy) => (dx, dy),
            _ => (draw.direction.cos(), draw.direction.sin()),
        };
        // What has been travelled and turned before the frame; each step leads to the next one.
        let (mut way, mut turned) = (0.0, 0.0);
        let mut poses = Vec::with_capacity(frames as usize);
        for frame in 0..frames {
            let t = f64::from(frame);
            let swing = self.swing(draw, t);
            poses.push(Pose {
                x: (way + swing) * dx * unit,
                y: (way + swing) * dy * unit,
                angle: draw.angle + turned,
                log_scale: self.log_scale(draw, t),
            });
            let (step, turn) = self.step(draw, t);
            way += step;
            turned += turn;
        }
        poses
    }

    /// Pixels along the direction and radians clockwise from frame `t` to the next.
    fn step(&self, draw: &Draw, t: f64) -> (f64, f64) {
        match self.motion {
            Motion::Pan(..) => (draw.between(1.2, 2.4), 0.0),
            Motion::Rotate(sign) => (0.0, sign * draw.between(2.5, 5.0).to_radians()),
            Motion::Speed(low, high) => (draw.between(low, high), 0.0),
            Motion::Ramp { faster } => {
                let share = saw(draw.phase, t, draw.between(14.0, 18.0));
                let share = if faster { share } else { 1.0 - share };
                (draw.between(1.4, 2.2) * (0.05 + 1.95 * share), 0.0)
            }
            Motion::Events(order) => {
                let share = saw(draw.phase, t, 3.0 * draw.between(6.0, 8.0));
                match order[((share * 3.0) as usize).min(2)] {
                    Event::Move => (draw.between(2.2, 3.2), 0.0),
                    Event::Spin => {
                        let sign = if draw.clockwise { 1.0 } else { -1.0 };
                        (0.0, sign * draw.between(5.0, 8.0).to_radians())
                    }
                    Event::Rest => (0.0, 0.0),
                }
            }
            Motion::Zoom { .. } | Motion::Swing(..) => (0.0, 0.0),
        }
    }

    /// Pixels away from the place of frame 0, for laws that come back.
    fn swing(&self, draw: &Draw, t: f64) -> f64 {
        let Motion::Swing(low, high) = self.motion else { return 0.0 };
        let period = draw.between(low, high);
        let at = |t: f64| (TAU * (t / period + draw.phase)).sin();
        // The place itself is uniform, so taking the start away changes no frame's distribution.
        draw.between(5.0, 8.0) * (at(t) - at(0.0))
    }

    fn log_scale(&self, draw: &Draw, t: f64) -> f64 {
        let share = match self.motion {
            Motion::Zoom { closer } => {
                let period = draw.between(18.0, 30.0);
                saw(draw.scale, if closer { t } else { -t }, period)
            }
            _ => draw.scale,
        };
        LOG_SCALE.0 + (LOG_SCALE.1 - LOG_SCALE.0) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw =
        Draw { angle: 1.0, scale: 0.25, direction: 0.0, phase: 0.125, rate: 0.5, clockwise: true };

    fn poses(name: &str, draw: &Draw, frames: u32, size: u32) -> Vec<Pose> {
        select(name).unwrap()[0].poses(draw, frames, size)
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    /// Shifts in x from frame to frame of a picture of 128 pixels.
    fn steps(name: &str, draw: &Draw, frames: u32) -> Vec<f64> {
        poses(name, draw, frames, 128).windows(2).map(|pair| pair[1].x - pair[0].x).collect()
    }

    #[test]
    fn classes_are_chosen_by_number_or_name() {
        let names = |text: &str| select(text).map(|laws| laws.iter().map(|law| law.name).collect::<Vec<_>>());
        assert_eq!(names("2").unwrap(), ["pan_right", "pan_left"]);
        assert_eq!(names("zoom_in, pan_up").unwrap(), ["zoom_in", "pan_up"]);
        assert_eq!(names("16").unwrap().len(), 16);
        for wrong in ["0", "17", "", "pan", "pan_up,pan_up"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pans_move_by_the_stated_pixels_and_scale_with_the_size() {
        for (name, dx, dy) in
            [("pan_right", 1.8, 0.0), ("pan_left", -1.8, 0.0), ("pan_down", 0.0, 1.8), ("pan_up", 0.0, -1.8)]
        {
            for size in [64, 128] {
                let last = poses(name, &DRAW, 11, size)[10];
                near(last.x, dx * 10.0 * f64::from(size) / 128.0);
                near(last.y, dy * 10.0 * f64::from(size) / 128.0);
            }
        }
    }

    #[test]
    fn turns_are_even_and_clockwise_is_positive() {
        near(poses("rotate_cw", &DRAW, 9, 64)[8].angle - 1.0, (8.0 * 3.75f64).to_radians());
        near(poses("rotate_ccw", &DRAW, 9, 64)[8].angle - 1.0, -(8.0 * 3.75f64).to_radians());
    }

    #[test]
    fn zooms_are_saw_tooths_within_the_range() {
        for (name, sign) in [("zoom_in", 1.0), ("zoom_out", -1.0)] {
            let scales: Vec<f64> = poses(name, &DRAW, 97, 64).iter().map(|pose| pose.log_scale).collect();
            assert!(scales.iter().all(|&s| (LOG_SCALE.0..=LOG_SCALE.1).contains(&s)));
            // Period 24: 96 steps have four jumps back.
            let jumps = scales.windows(2).filter(|pair| (pair[1] - pair[0]) * sign < 0.0).count();
            assert_eq!(jumps, 4, "{name}");
            near(scales[24], scales[0]);
        }
    }

    #[test]
    fn speeds_ramps_and_swings_have_the_stated_rates() {
        near(steps("speed_slow", &DRAW, 2)[0], 0.525);
        near(steps("speed_fast", &DRAW, 2)[0], 4.25);
        // Period 16 from phase 1/8: the jump lies between steps 13 and 14.
        let ramp = steps("accelerate", &DRAW, 18);
        near(ramp[0], 1.8 * (0.05 + 1.95 * 0.125));
        assert!(ramp[..14].windows(2).all(|pair| pair[1] > pair[0]) && ramp[14] < ramp[0]);
        for (name, period) in [("swing_slow", 32), ("swing_fast", 8)] {
            let poses = poses(name, &DRAW, 65, 128);
            near(poses[period].x, 0.0);
            let (low, high) =
                poses.iter().fold((0.0f64, 0.0f64), |(low, high), pose| (low.min(pose.x), high.max(pose.x)));
            near(high - low, 13.0);
        }
    }

    #[test]
    fn events_come_in_the_order_of_their_name() {
        // 7 frames each, phase 1/8 of 21 frames: 5 frames of the first, then 7 and 7.
        let poses = poses("move_spin_rest", &DRAW, 21, 128);
        let word: String = poses
            .windows(2)
            .map(|pair| match (pair[1].x != pair[0].x, pair[1].angle != pair[0].angle) {
                (true, false) => 'm',
                (false, true) => 's',
                (false, false) => 'r',
                _ => '?',
            })
            .collect();
        assert_eq!(word, "mmmmmsssssssrrrrrrrm");
    }

    #[test]
    fn all_twins_begin_with_the_same_pose() {
        for law in &LAWS {
            let first = law.poses(&DRAW, 1, 64)[0];
            near(first.x.abs() + first.y.abs(), 0.0);
            near(first.angle, 1.0);
            near(first.log_scale, LOG_SCALE.0 + 0.25 * (LOG_SCALE.1 - LOG_SCALE.0));
        }
    }

    /// The draw with which the other law of the pair makes the same video backwards.
    fn backwards(law: &Law, draw: &Draw, frames: u32) -> Draw {
        let last = law.poses(draw, frames, 128)[frames as usize - 1];
        // Frames of a step differ from steps by one: a video of n frames has n - 1 steps.
        let back = |period: f64| (1.0 - saw(draw.phase, f64::from(frames) - 2.0, period)).rem_euclid(1.0);
        let (phase, turn) = match law.motion {
            Motion::Ramp { .. } => (back(draw.between(14.0, 18.0)), 0.5),
            // Backwards the order is rest, second, first; the other law has rest last, a third later.
            Motion::Events(_) => ((back(3.0 * draw.between(6.0, 8.0)) - 1.0 / 3.0).rem_euclid(1.0), 0.5),
            Motion::Swing(low, high) => {
                let end = f64::from(frames - 1) / draw.between(low, high) + draw.phase;
                ((0.5 - end).rem_euclid(1.0), 0.0)
            }
            _ => (draw.phase, 0.5),
        };
        Draw {
            angle: last.angle,
            scale: (last.log_scale - LOG_SCALE.0) / (LOG_SCALE.1 - LOG_SCALE.0),
            direction: draw.direction + turn * TAU,
            phase,
            clockwise: !draw.clockwise,
            ..*draw
        }
    }

    #[test]
    fn reversed_classes_are_each_others_time_reversal() {
        for law in &LAWS {
            for (number, frames) in (0..20).zip([24, 32, 48].into_iter().cycle()) {
                let draw = Draw::new(Key::new(number));
                let mut played = law.poses(&draw, frames, 128);
                played.reverse();
                let start = played[0];
                let other = select(law.reversed).unwrap()[0];
                let made = other.poses(&backwards(law, &draw, frames), frames, 128);
                for (a, b) in played.iter().zip(&made) {
                    let apart = (a.x - start.x - b.x).abs()
                        + (a.y - start.y - b.y).abs()
                        + (a.angle - b.angle).abs()
                        + (a.log_scale - b.log_scale).abs();
                    assert!(apart < 1e-6, "{} backwards is not {}: {a:?} {b:?}", law.name, other.name);
                }
            }
        }
    }
}
