//! The geometry of a convolution, and the correlations that its passes are made of.

/// A two-dimensional convolution of a batch: all its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Input channels of a group.
    pub(crate) inputs: usize,
    /// Output channels of a group.
    pub(crate) outputs: usize,
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros above and left of the input.
    pub(crate) padding: [usize; 2],
    /// Zeros below and right of it.
    pub(crate) padding_end: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

/// A correlation of channels with taps: what the kernels compute.
///
/// At each position of a `grid`, an output channel is the sum over input channels and taps of weight times input, where
/// the input is read at `position * step + tap`, zero outside of the source. It belongs to the target at `start +
/// position * spacing`.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    pub(crate) groups: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Height and width of the source's maps.
    pub(crate) source: [usize; 2],
    /// Height and width of the target's maps.
    pub(crate) target: [usize; 2],
    pub(crate) grid: [usize; 2],
    pub(crate) step: [usize; 2],
    pub(crate) start: [usize; 2],
    pub(crate) spacing: [usize; 2],
    pub(crate) taps: Vec<Tap>,
}

/// An entry of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    /// Where it reads at the grid's origin.
    pub(crate) at: [isize; 2],
    /// Its index in the kernel.
    pub(crate) index: usize,
}

impl Geometry {
    /// Height and width of the output, or none if the kernel does not fit.
    pub(crate) fn output(&self) -> Option<[usize; 2]> {
        let of = |axis: usize| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let free = (self.input[axis] + self.padding[axis] + self.padding_end[axis]).checked_sub(reach)?;
            Some(free / self.stride[axis] + 1)
        };
        Some([of(0)?, of(1)?])
    }

    /// Entries of a kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The correlation that the forward pass is: of inputs, to outputs.
    pub(crate) fn forward(&self) -> Correlation {
        let output = self.output().expect("the kernel was checked to fit");
        let at = |axis: usize, index: usize| (index * self.dilation[axis]) as isize - self.padding[axis] as isize;
        let taps = (0..self.taps()).map(|index| {
            let [row, column] = [index / self.kernel[1], index % self.kernel[1]];
            Tap { at: [at(0, row), at(1, column)], index }
        });
        Correlation {
            groups: self.groups,
            inputs: self.inputs,
            outputs: self.outputs,
            source: self.input,
            target: output,
            grid: output,
            step: self.stride,
            start: [0, 0],
            spacing: [1, 1],
            taps: taps.collect(),
        }
    }

    /// The correlations that give the input's gradient: of the output's gradient, one for each remainder of input
    /// positions by the stride. Some may have no taps: there the gradient is zero.
    pub(crate) fn input_gradient(&self) -> Vec<Correlation> {
        let output = self.output().expect("the kernel was checked to fit");
        let mut parts = Vec::new();
        for row in 0..self.stride[0].min(self.input[0]) {
            for column in 0..self.stride[1].min(self.input[1]) {
                let start = [row, column];
                let taps = (0..self.taps()).filter_map(|index| {
                    let entry = [index / self.kernel[1], index % self.kernel[1]];
                    let [row, column] = [self.reached(0, start[0], entry[0]), self.reached(1, start[1], entry[1])];
                    Some(Tap { at: [row?, column?], index })
                });
                let grid = |axis: usize| (self.input[axis] - start[axis]).div_ceil(self.stride[axis]);
                parts.push(Correlation {
                    groups: self.groups,
                    inputs: self.outputs,
                    outputs: self.inputs,
                    source: output,
                    target: self.input,
                    grid: [grid(0), grid(1)],
                    step: [1, 1],
                    start,
                    spacing: self.stride,
                    taps: taps.collect(),
                });
            }
        }
        parts
    }

    /// The output position that reads the input position `start` through this entry of the kernel, if there is one.
    fn reached(&self, axis: usize, start: usize, entry: usize) -> Option<isize> {
        let stride = self.stride[axis] as isize;
        let distance = (start + self.padding[axis]) as isize - (entry * self.dilation[axis]) as isize;
        (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
    }

    /// Multiplications and additions of one pass.
    pub(crate) fn operations(&self) -> usize {
        let [rows, columns] = self.output().unwrap_or([0, 0]);
        2 * self.batch * self.groups * self.outputs * self.inputs * self.taps() * rows * columns
    }
}
