//! Where a view's pixels come from: all geometric steps composed into one map from view to stored picture.
//!
//! Coordinates are continuous: pixel `i` covers `[i, i + 1)` and has its centre at `i + 0.5`.

use reelflow_api::item::Orientation;

/// `x' = a x + b y + c`, `y' = d x + e y + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// `[a, b, c]`: the first coordinate of the image.
    pub x: [f64; 3],
    /// `[d, e, f]`: the second coordinate of the image.
    pub y: [f64; 3],
}

impl Affine {
    /// Leaves every point where it is.
    pub const IDENTITY: Self = Self { x: [1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };

    /// Image of a point.
    #[must_use]
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x[0] * x + self.x[1] * y + self.x[2], self.y[0] * x + self.y[1] * y + self.y[2])
    }

    /// First `inner`, then `self`.
    #[must_use]
    pub fn after(&self, inner: &Self) -> Self {
        let row = |r: [f64; 3]| {
            [
                r[0] * inner.x[0] + r[1] * inner.y[0],
                r[0] * inner.x[1] + r[1] * inner.y[1],
                r[0] * inner.x[2] + r[1] * inner.y[2] + r[2],
            ]
        };
        Self { x: row(self.x), y: row(self.y) }
    }
}

/// From an upright picture to the stored one, for a stored picture of `width` x `height`.
#[must_use]
pub fn stored_from_upright(orientation: Orientation, width: u32, height: u32) -> Affine {
    let (w, h) = (f64::from(width), f64::from(height));
    // Turning a w x h picture a quarter clockwise takes (x, y) to (h - y, x); these are the ways back.
    let turns = orientation.quarter_turns % 4;
    let turn = match turns {
        0 => Affine::IDENTITY,
        1 => Affine { x: [0.0, 1.0, 0.0], y: [-1.0, 0.0, h] },
        2 => Affine { x: [-1.0, 0.0, w], y: [0.0, -1.0, h] },
        _ => Affine { x: [0.0, -1.0, w], y: [1.0, 0.0, 0.0] },
    };
    if !orientation.mirror {
        return turn;
    }
    let upright_width = if turns % 2 == 1 { h } else { w };
    turn.after(&Affine { x: [-1.0, 0.0, upright_width], y: [0.0, 1.0, 0.0] })
}

/// The picture as it looks after some steps: its size, and where its points come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canvas {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// From this canvas to the luma plane of the stored picture.
    pub map: Affine,
}

impl Canvas {
    /// The upright picture before any step.
    #[must_use]
    pub fn new(orientation: Orientation, width: u32, height: u32) -> Self {
        let map = stored_from_upright(orientation, width, height);
        let is_turned = orientation.quarter_turns % 2 == 1;
        let (width, height) = if is_turned { (height, width) } else { (width, height) };
        Self { width, height, map }
    }

    /// Turns the content counter-clockwise by `degrees` about the centre; size and corners stay.
    #[must_use]
    pub fn rotate(self, degrees: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (cx, cy) = (f64::from(self.width) / 2.0, f64::from(self.height) / 2.0);
        // The way back turns clockwise; rows grow downwards, so that is [cos -sin; sin cos].
        let back =
            Affine { x: [cos, -sin, cx - cos * cx + sin * cy], y: [sin, cos, cy - sin * cx - cos * cy] };
        Self { map: self.map.after(&back), ..self }
    }

    /// Stretches the picture to `width` x `height`.
    #[must_use]
    pub fn resize(self, width: u32, height: u32) -> Self {
        let scale = Affine {
            x: [f64::from(self.width) / f64::from(width), 0.0, 0.0],
            y: [0.0, f64::from(self.height) / f64::from(height), 0.0],
        };
        Self { width, height, map: self.map.after(&scale) }
    }

    /// Scales the picture so that its shorter side is `short`; the longer one is rounded down, at least 1
    /// (torchvision `Resize`).
    #[must_use]
    pub fn resize_short(self, short: u32) -> Self {
        let (width, height) = short_size(self.width, self.height, short);
        self.resize(width, height)
    }

    /// Enlarges a picture that is narrower or lower than `size` until it just covers it.
    #[must_use]
    pub fn cover(self, size: u32) -> Self {
        if self.width.min(self.height) >= size { self } else { self.resize_short(size) }
    }

    /// Cuts out `width` x `height` pixels whose left top corner is (`left`, `top`).
    #[must_use]
    pub fn crop(self, left: u32, top: u32, width: u32, height: u32) -> Self {
        let shift = Affine { x: [1.0, 0.0, f64::from(left)], y: [0.0, 1.0, f64::from(top)] };
        Self { width, height, map: self.map.after(&shift) }
    }

    /// Mirrors left and right.
    #[must_use]
    pub fn flip(self) -> Self {
        let mirror = Affine { x: [-1.0, 0.0, f64::from(self.width)], y: [0.0, 1.0, 0.0] };
        Self { map: self.map.after(&mirror), ..self }
    }
}

/// Size after scaling the shorter side to `short`.
#[must_use]
pub fn short_size(width: u32, height: u32, short: u32) -> (u32, u32) {
    let long = |long: u32, of: u32| {
        let scaled = u64::from(short) * u64::from(long) / u64::from(of.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    };
    if width <= height { (short, long(height, width)) } else { (long(width, height), short) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_near(found: (f64, f64), expected: (f64, f64)) {
        let off = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
        assert!(off < 1e-9, "{found:?} is not {expected:?}");
    }

    #[test]
    fn orientation_finds_the_stored_corner() {
        // Stored 4 x 2. Turned clockwise, the stored left bottom pixel becomes the upright left top one.
        let at = |turns, mirror| {
            let canvas = Canvas::new(Orientation { quarter_turns: turns, mirror }, 4, 2);
            (canvas.map.at(0.5, 0.5), (canvas.width, canvas.height))
        };
        assert_eq!(at(0, false), ((0.5, 0.5), (4, 2)));
        assert_eq!(at(1, false), ((0.5, 1.5), (2, 4)));
        assert_eq!(at(2, false), ((3.5, 1.5), (4, 2)));
        assert_eq!(at(3, false), ((3.5, 0.5), (2, 4)));
        assert_eq!(at(0, true), ((3.5, 0.5), (4, 2)));
        assert_eq!(at(1, true), ((0.5, 0.5), (2, 4)));
        assert_eq!(at(2, true), ((0.5, 1.5), (4, 2)));
        assert_eq!(at(3, true), ((3.5, 1.5), (2, 4)));
    }

    #[test]
    fn steps_compose_from_the_last_to_the_first() {
        let canvas = Canvas::new(Orientation::default(), 40, 20).resize(80, 40).crop(10, 4, 20, 10);
        check_near(canvas.map.at(0.0, 0.0), (5.0, 2.0));
        check_near(canvas.flip().map.at(0.0, 0.0), (15.0, 2.0));
        assert_eq!((canvas.width, canvas.height), (20, 10));
    }

    #[test]
    fn rotation_keeps_the_centre_and_turns_counter_clockwise() {
        let canvas = Canvas::new(Orientation::default(), 40, 20);
        check_near(canvas.rotate(10.0).map.at(20.0, 10.0), (20.0, 10.0));
        // After a quarter turn counter-clockwise the upper end shows what was on the right.
        check_near(canvas.rotate(90.0).map.at(20.0, 0.0), (30.0, 10.0));
        check_near(canvas.rotate(7.0).rotate(-7.0).map.at(3.0, 4.0), (3.0, 4.0));
    }

    #[test]
    fn the_shorter_side_is_scaled_and_small_pictures_are_covered() {
        assert_eq!(short_size(320, 240, 128), (170, 128));
        assert_eq!(short_size(240, 320, 128), (128, 170));
        assert_eq!(short_size(1, 5000, 128), (128, 640_000));
        let small = Canvas::new(Orientation::default(), 20, 30).cover(40);
        assert_eq!((small.width, small.height), (40, 60));
        let large = Canvas::new(Orientation::default(), 50, 60).cover(40);
        assert_eq!((large.width, large.height), (50, 60));
    }
}
