//! The two spirals (Lang and Witbrock 1988), on which networks that grow have been tried since Cascade-Correlation
//! (Fahlman and Lebiere 1990): which of two interlocked spirals does a point lie on?

use std::f64::consts::PI;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::Seed;
use gradmax::training::{InMemory, Supervised, Target};
use serde::{Deserialize, Serialize};

use super::source::{Answers, DataSet, DataShape, DataSource};
use crate::failure::misuse;
use crate::reading::Reading;

/// Points of the plane on two spirals; the test points lie on the spirals halfway between the training points.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoSpirals {
    /// Training points on each spiral.
    #[serde(default = "default_points")]
    points: usize,
    /// Turns of each spiral.
    #[serde(default = "default_turns")]
    turns: f64,
}

fn default_points() -> usize {
    97
}

fn default_turns() -> f64 {
    3.0
}

/// The distance from the middle at the outer and at the inner end.
const RADII: [f64; 2] = [6.5, 0.5];

impl TwoSpirals {
    /// The point of the first spiral that lies this share of the way from its outer end to its inner one. The second
    /// spiral's is opposite to it.
    fn point(&self, share: f64) -> [f32; 2] {
        let (radius, angle) = (RADII[0] + share * (RADII[1] - RADII[0]), 2.0 * PI * self.turns * share);
        [radius * angle.sin(), radius * angle.cos()].map(|coordinate| coordinate as f32)
    }

    /// `count` points of each spiral, the first of them `offset` of the distance between two behind the outer end.
    fn examples(&self, count: usize, offset: f64, device: &Device) -> InMemory<Reading> {
        let shares = (0..count).map(|index| (index as f64 + offset) / (self.points - 1) as f64);
        let points = shares.flat_map(|share| {
            let [x, y] = self.point(share);
            [x, y, -x, -y]
        });
        let inputs = TensorData::new(points.collect::<Vec<_>>(), [2 * count, 2, 1, 1]);
        let classes = (0..2 * count as u32).map(|index| index % 2);
        InMemory::new(Reading::Maps(Tensor::from_data(inputs, device)), Target::classes(classes, device))
    }
}

impl DataSource for TwoSpirals {
    fn shape(&self) -> Result<DataShape> {
        Ok(DataShape::of_maps([2, 1, 1], 2))
    }

    fn examples(&self) -> usize {
        2 * self.points
    }

    fn load(&self, _seed: Seed, device: &Device) -> Result<DataSet> {
        let (train, test) = (self.examples(self.points, 0.0, device), self.examples(self.points - 1, 0.5, device));
        Ok(DataSet::new(Box::new(train), Box::new(test), Supervised::Classification))
    }

    fn check(&self, _batch_size: Option<usize>) -> Result<()> {
        if self.points < 2 {
            return Err(misuse(format!("`data.points` is {}; a spiral needs at least two", self.points)));
        }
        match self.turns.is_finite() && self.turns > 0.0 {
            true => Ok(()),
            false => Err(misuse(format!("`data.turns` is {}; it must be above 0", self.turns))),
        }
    }

    fn answers(&self) -> Result<Answers> {
        Ok(Answers::Classes(vec!["0".into(), "1".into()]))
    }

    fn place(&self) -> Result<String> {
        Ok("computed by this program".into())
    }

    fn describe(&self) -> Result<String> {
        let points = self.points;
        Ok(format!("two_spirals: {} training points, and {} test points between them", 2 * points, 2 * points - 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_those_of_the_published_benchmark() {
        // x = r sin(t), y = r cos(t) with r = 6.5 (104 - i) / 104 and t = i pi / 16 for i = 0 ... 96.
        let spirals = TwoSpirals { points: 97, turns: 3.0 };
        for index in 0..97 {
            let (radius, angle) = (6.5 * (104.0 - f64::from(index)) / 104.0, f64::from(index) * PI / 16.0);
            let [x, y] = spirals.point(f64::from(index) / 96.0).map(f64::from);
            assert!((x - radius * angle.sin()).abs() < 1e-6 && (y - radius * angle.cos()).abs() < 1e-6, "{index}");
        }
    }

    #[test]
    fn the_second_spiral_is_the_first_one_turned_by_half() {
        let data = TwoSpirals { points: 5, turns: 1.0 }.load(Seed::new(0), &Device::flex()).unwrap();
        assert_eq!((data.train.count(), data.test.count()), (10, 8));
        let batch = data.train.batch(&[2, 3]).unwrap();
        let rows = batch.input.maps().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!((rows[0], rows[1]), (-rows[2], -rows[3]));
        let Target::Classes(classes) = batch.target else { panic!("points have classes") };
        assert_eq!(classes.into_data().iter::<i64>().collect::<Vec<_>>(), [0, 1]);
    }
}
