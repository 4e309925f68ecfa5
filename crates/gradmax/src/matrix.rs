//! Host matrices, and their way to and from tensors.

use burn::tensor::{Device, Tensor, TensorData};
use faer::{Mat, MatRef};

/// A matrix on the host in double precision: the currency of growth methods and solvers.
pub type Matrix = Mat<f64>;

/// The matrix as a tensor `[rows, columns]` on a device, in the device's default float type.
pub(crate) fn to_tensor(matrix: MatRef<'_, f64>, device: &Device) -> Tensor<2> {
    Tensor::from_data(to_data(matrix), device)
}

/// The matrix as tensor data `[rows, columns]` in single precision.
pub(crate) fn to_data(matrix: MatRef<'_, f64>) -> TensorData {
    TensorData::new(entries(matrix), [matrix.nrows(), matrix.ncols()])
}

/// The entries row by row, in single precision.
pub(crate) fn entries(matrix: MatRef<'_, f64>) -> Vec<f32> {
    let (rows, columns) = matrix.shape();
    let mut values = vec![0.0_f32; rows * columns];
    // Column by column, as the matrix lies in memory; the rows that are written stay in the cache.
    for j in 0..columns {
        matrix.col(j).iter().enumerate().for_each(|(i, entry)| values[i * columns + j] = *entry as f32);
    }
    values
}

/// The tensor `[rows, columns]` as a matrix on the host.
pub(crate) fn from_tensor(tensor: Tensor<2>) -> Matrix {
    let [rows, columns] = tensor.dims();
    // One copy from the device, whatever its float type.
    let data = tensor.into_data();
    match data.as_slice::<f32>() {
        Ok(entries) => Mat::from_fn(rows, columns, |i, j| f64::from(entries[i * columns + j])),
        Err(_) => {
            let entries = values(&data);
            Mat::from_fn(rows, columns, |i, j| entries[i * columns + j])
        }
    }
}

/// The norm of each row.
pub(crate) fn row_norms(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let mut squares = vec![0.0; matrix.nrows()];
    // Column by column, as matrices lie in memory.
    for column in matrix.col_iter() {
        squares.iter_mut().zip(column.iter()).for_each(|(sum, entry)| *sum += entry * entry);
    }
    squares.into_iter().map(f64::sqrt).collect()
}

/// The entries of tensor data in double precision, which holds every float type exactly.
pub(crate) fn values(data: &TensorData) -> Vec<f64> {
    match data.as_slice::<f32>() {
        Ok(entries) => entries.iter().map(|x| f64::from(*x)).collect(),
        Err(_) => data.iter::<f64>().collect(),
    }
}

/// The Frobenius norm of a tensor, summed on the host in double precision.
pub(crate) fn norm<const D: usize>(tensor: Tensor<D>) -> f64 {
    values(&tensor.into_data()).iter().map(|x| x * x).sum::<f64>().sqrt()
}
