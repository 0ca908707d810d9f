//! Draws the frames of one video: a pose a frame, and a look that all classes share.

use std::f64::consts::TAU;

use reelflow_api::rng::Key;

use super::laws::{Draw, LOG_SCALE, Law, Pose};
use super::texture::{SIDE, Texture, Tile, to_byte};

/// What moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The whole picture.
    Camera,
    /// A textured shape over a picture that rests.
    Sprite,
}

impl Mode {
    /// Videos alternate.
    #[must_use]
    pub fn of(number: u32) -> Self {
        if number.is_multiple_of(2) { Self::Camera } else { Self::Sprite }
    }

    /// `camera` or `sprite`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Sprite => "sprite",
        }
    }
}

/// Standard deviation of the grain, on a scale of 0 to 255.
const GRAIN: f64 = 2.0;

/// Texture pixels for one pixel of a picture of 128 pixels at scale 1.
const PIXELS_AT_128: f64 = 128.0;

/// Everything of a video but its law; matched twins share it.
#[derive(Clone, Debug)]
pub struct Scene {
    size: u32,
    mode: Mode,
    draw: Draw,
    /// Where the sprite is at first, pixels.
    place: (f64, f64),
    /// Outline of the sprite.
    shape: Shape,
    /// Half the width of the sprite at scale 1, pixels.
    radius: f64,
    /// What moves, and the point of it that is at the place (sprite) or in the middle (camera).
    front: Tile,
    centre: (f64, f64),
    /// The picture behind the sprite; empty for a camera.
    back: Vec<[f32; 3]>,
    /// Twice the noise that a frame needs: each frame takes a piece.
    grain: Vec<f32>,
    /// Pixels of `front` for one of the picture at scale 1.
    step: f64,
    halvings: u32,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Disc,
    Square,
    Lobes,
}

impl Scene {
    /// The scene of video `number`, `size` pixels square, of `key` (seed and split).
    #[must_use]
    pub fn new(key: Key, number: u32, size: u32, front: &Texture, back: &Texture) -> Self {
        let key = key.number(u64::from(number));
        let mode = Mode::of(number);
        let mut rng = key.part("look").rng();
        let step = PIXELS_AT_128 / f64::from(size);
        // Averaged before it is sampled, so that small pictures do not flicker.
        let halvings = (step.log2().floor().max(0.0) as u32).min(SIDE.ilog2() - 2);
        let far = (2 * SIDE) as f64;
        let place = (rng.unit() * f64::from(size), rng.unit() * f64::from(size));
        let anywhere = (rng.unit() * far, rng.unit() * far);
        let behind = (rng.unit() * far, rng.unit() * far);
        let behind_pose = Pose {
            angle: rng.range(0.0, TAU),
            log_scale: rng.range(LOG_SCALE.0, LOG_SCALE.1),
            ..Pose::default()
        };
        let radius = rng.range(0.20, 0.28) * f64::from(size);
        let shape = [Shape::Disc, Shape::Square, Shape::Lobes][rng.below(3) as usize];
        let table = colours(key.part("colours"));
        // Not for the camera: which frames still show the spot would tell the class.
        let centre = if mode == Mode::Sprite { front.busy_spot(key.part("spot")) } else { anywhere };
        let mut noise = key.part("grain").rng();
        let mut scene = Self {
            size,
            mode,
            draw: Draw::new(key.part("law")),
            place,
            shape,
            radius,
            front: back.through(&table, halvings),
            centre: behind,
            back: Vec::new(),
            grain: (0..size * size * 6).map(|_| (noise.normal() * GRAIN) as f32).collect(),
            step: step / f64::from(1u32 << halvings),
            halvings,
        };
        if mode == Mode::Sprite {
            scene.back = scene.whole(&behind_pose);
        }
        scene.front = front.through(&table, halvings);
        scene.centre = centre;
        scene
    }

    /// The frames under `law`: red, green, blue, `size` x `size` pixels a frame, bytes.
    pub fn frames(&self, law: &Law, frames: u32, key: Key) -> impl Iterator<Item = Vec<u8>> {
        let mut cuts = key.part(law.name).rng();
        law.poses(&self.draw, frames, self.size).into_iter().map(move |pose| {
            let picture = match self.mode {
                Mode::Camera => self.whole(&pose),
                Mode::Sprite => self.sprite(&pose),
            };
            let cut = cuts.below(self.grain.len() as u64 / 2) as usize;
            let values = picture.iter().flatten();
            values.zip(&self.grain[cut..]).map(|(value, grain)| to_byte(value + grain)).collect()
        })
    }

    /// The texture over the whole picture; it has moved by the pose, so the eye moves the other way.
    fn whole(&self, pose: &Pose) -> Vec<[f32; 3]> {
        let (middle, look) = (f64::from(self.size) / 2.0, Look::new(pose, self.step));
        let centre = self.in_tile(self.centre);
        self.grid(|x, y| {
            let (u, v) = look.at(x - middle - pose.x, y - middle - pose.y);
            self.front.at((u + centre.0) as f32, (v + centre.1) as f32)
        })
    }

    /// The shape at its place over the still picture; it leaves on one side and enters on the other.
    fn sprite(&self, pose: &Pose) -> Vec<[f32; 3]> {
        let (size, middle) = (f64::from(self.size), f64::from(self.size) / 2.0);
        let look = Look::new(pose, 1.0);
        let centre = self.in_tile(self.centre);
        let wrap = |at: f64, place: f64| (at + middle - place).rem_euclid(size) - middle;
        let mut behind = self.back.iter();
        self.grid(|x, y| {
            let back = *behind.next().expect("the back has as many pixels as the grid");
            let (u, v) = look.at(wrap(x, self.place.0 + pose.x), wrap(y, self.place.1 + pose.y));
            // An edge of a pixel and a half has no stairs.
            let share = ((self.radius - self.shape.reach(u, v)) / 1.5 + 0.5).clamp(0.0, 1.0) as f32;
            if share == 0.0 {
                return back;
            }
            let front = self.front.at((u * self.step + centre.0) as f32, (v * self.step + centre.1) as f32);
            [0, 1, 2].map(|c| back[c] + (front[c] - back[c]) * share)
        })
    }

    /// Texture pixels to pixels of the halved tile, whose first pixel is the mean of several.
    fn in_tile(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let scale = f64::from(1u32 << self.halvings);
        ((x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5)
    }

    /// One value for each pixel, row by row.
    fn grid(&self, mut value: impl FnMut(f64, f64) -> [f32; 3]) -> Vec<[f32; 3]> {
        let side = self.size;
        (0..side * side).map(|at| value(f64::from(at % side), f64::from(at / side))).collect()
    }
}

impl Shape {
    /// Distance from the middle, where the outline is at the radius.
    fn reach(self, u: f64, v: f64) -> f64 {
        match self {
            Self::Disc => u.hypot(v),
            Self::Square => u.abs().max(v.abs()) * 1.1,
            Self::Lobes => u.hypot(v) / (1.0 + 0.25 * (3.0 * v.atan2(u)).cos()),
        }
    }
}

/// From the picture to the texture: turned back and scaled back.
struct Look {
    cos: f64,
    sin: f64,
}

impl Look {
    fn new(pose: &Pose, step: f64) -> Self {
        let scale = step / pose.log_scale.exp();
        Self { cos: pose.angle.cos() * scale, sin: pose.angle.sin() * scale }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.cos * x + self.sin * y, self.cos * y - self.sin * x)
    }
}

/// A table of 256 values for red, green, blue: random gain (one for all and one each), bias and gamma.
fn colours(key: Key) -> [[f32; 256]; 3] {
    let mut rng = key.rng();
    let (gain, bias, gamma) = (rng.range(0.8, 1.2), rng.range(-20.0, 20.0), rng.range(0.8, 1.25));
    [(); 3].map(|()| {
        let gain = gain * rng.range(0.9, 1.1);
        std::array::from_fn(|code| {
            let value = 255.0 * (code as f64 / 255.0).powf(gamma) * gain + bias;
            value.clamp(0.0, 255.0) as f32
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::laws::{LAWS, select};
    use super::*;

    fn scene(number: u32, size: u32) -> Scene {
        let texture = |part: &str| Texture::noise(Key::new(9).part(part).number(u64::from(number) / 2));
        Scene::new(Key::new(1), number, size, &texture("a"), &texture("b"))
    }

    fn frames(scene: &Scene, law: &str, count: u32) -> Vec<Vec<u8>> {
        scene.frames(select(law).unwrap()[0], count, Key::new(1)).collect()
    }

    fn without_grain(number: u32, size: u32) -> Scene {
        let mut scene = scene(number, size);
        scene.grain.fill(0.0);
        scene
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        for number in [0, 1] {
            let made = frames(&scene(number, 32), "accelerate", 5);
            assert_eq!(made, frames(&scene(number, 32), "accelerate", 5));
            assert_ne!(made, frames(&scene(number + 2, 32), "accelerate", 5));
            assert!(made.iter().all(|frame| frame.len() == 32 * 32 * 3));
        }
    }

    #[test]
    fn twins_begin_with_the_same_picture_and_then_part() {
        for number in [0, 1] {
            let scene = without_grain(number, 32);
            let first = frames(&scene, "pan_right", 9);
            for law in &LAWS[1..] {
                let other = frames(&scene, law.name, 9);
                assert_eq!(first[0], other[0], "{}", law.name);
                assert_ne!(first[8], other[8], "{}", law.name);
            }
        }
    }

    #[test]
    fn a_camera_panning_by_whole_pixels_shifts_the_picture() {
        let mut scene = without_grain(0, 128);
        // Half of 1.2 to 2.4 pixels a frame would be 1.8; this rate makes it 2.
        scene.draw.rate = 2.0 / 3.0;
        let made = frames(&scene, "pan_right", 4);
        for (x, y) in [(20, 5), (100, 77)] {
            let at = |frame: &[u8], x: usize| frame[(y * 128 + x) * 3..][..3].to_vec();
            let apart = at(&made[0], x).iter().zip(at(&made[3], x + 6)).map(|(a, b)| a.abs_diff(b)).max();
            assert!(apart.unwrap() <= 1, "the picture moved 6 pixels to the right");
        }
    }

    #[test]
    fn only_the_sprite_moves_before_its_background() {
        let scene = without_grain(1, 64);
        let made = frames(&scene, "speed_fast", 3);
        let still = made[0].iter().zip(&made[2]).filter(|(a, b)| a == b).count();
        assert!((64 * 64 * 3 / 4..64 * 64 * 3).contains(&still), "{still} values rest");
    }

    /// Mean and standard deviation of a frame.
    fn statistics(frame: &[u8]) -> [f64; 2] {
        let n = frame.len() as f64;
        let mean = frame.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        [mean, (frame.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()]
    }

    #[test]
    fn single_frames_do_not_tell_the_classes_apart() {
        const VIDEOS: u32 = 24;
        let scenes: Vec<Scene> = (0..VIDEOS).map(|number| scene(number, 16)).collect();
        for at in [0, 20] {
            // A mean over videos for each class, and the spread of one class's videos.
            let all: Vec<Vec<[f64; 2]>> = LAWS
                .iter()
                .map(|law| {
                    scenes.iter().map(|s| statistics(&frames(s, law.name, at + 1)[at as usize])).collect()
                })
                .collect();
            for which in [0, 1] {
                let values: Vec<f64> = all.iter().flatten().map(|s| s[which]).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let spread =
                    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
                for (law, videos) in LAWS.iter().zip(&all) {
                    let own = videos.iter().map(|s| s[which]).sum::<f64>() / f64::from(VIDEOS);
                    // Of 24 independent videos the mean lies within 3.3 standard errors in 999 of 1000.
                    let limit = if at == 0 { 0.3 } else { 3.3 * spread / f64::from(VIDEOS).sqrt() };
                    assert!((own - mean).abs() < limit, "frame {at} of {}: {own} among {mean}", law.name);
                }
            }
        }
    }
}
