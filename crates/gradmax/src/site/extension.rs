//! Extensions: entries to insert into parameters, the only currency of growth. One list widens the module, pads its
//! gradients and its optimizer state, and is what a receipt counts.

use burn::module::ParamId;
use burn::tensor::TensorData;

use crate::error::Error;

/// Entries to insert into one parameter along one axis; usually at its end.
///
/// `values` has the parameter's *old* shape but for the axis, where it has the number of new entries. Extensions of one
/// parameter along several axes, or at several places of one, are all stated against its old shape; where axes meet,
/// entries are zero, or those of the entry that is copied.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The parameter.
    pub parameter: ParamId,
    /// The axis that gains entries.
    pub axis: usize,
    /// The old length of that axis.
    pub length: usize,
    /// The old index that the new entries come before; the old length to append.
    pub at: usize,
    /// What to insert.
    pub values: TensorData,
    /// For each new entry along the axis, the old one that it is a copy of, if any: `values` are then added to what
    /// that one has become, along the other axes too. Empty if none is.
    pub copies: Vec<Option<usize>>,
}

impl Extension {
    /// Number of entries that the axis gains.
    pub fn added(&self) -> usize {
        self.values.shape()[self.axis]
    }

    /// The parameter's shape before.
    pub fn old_shape(&self) -> Vec<usize> {
        let mut shape = self.values.shape().to_vec();
        shape[self.axis] = self.length;
        shape
    }

    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        if self.old_shape() == shape && self.at <= self.length {
            return Ok(());
        }
        Err(Error::ExtensionMismatch {
            parameter: name.to_string(),
            axis: self.axis,
            reason: format!("it was made for shape {:?}, but the parameter has shape {shape:?}", self.old_shape()),
        })
    }
}
