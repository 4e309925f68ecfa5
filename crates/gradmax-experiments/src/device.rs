//! The devices that this binary can compute on.

use anyhow::Result;
use burn::tensor::Device;

use crate::failure::misuse;

/// The names of all devices, and those that this binary can use, by its features.
const KINDS: [(&str, bool); 7] = [
    ("flex", cfg!(feature = "flex")),
    ("cuda", cfg!(feature = "cuda")),
    ("rocm", cfg!(feature = "rocm")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("webgpu", cfg!(feature = "webgpu")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("metal", cfg!(feature = "metal")),
];

/// In place of a device's number, the number of this process among those on its machine.
const LOCAL: &str = "LOCAL";

/// The number of this process among those that MPI has started on its machine, as Open MPI, MPICH and its kin, and Slurm
/// give it; 0 without them.
fn local_rank() -> usize {
    let names = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    names.into_iter().find_map(number).unwrap_or(0)
}

/// The device of that name, with automatic differentiation.
pub fn named(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let Some((kind, built)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return Err(misuse(format!(
            "there is no device `{name}`; the devices are: flex, cuda:N, rocm:N (N may be LOCAL under MPI), wgpu, webgpu, vulkan, metal"
        )));
    };
    if !built {
        return Err(misuse(format!(
            "this binary was built without `{kind}`; build it with `cargo build --release --features {kind}`"
        )));
    }
    let index = match index {
        LOCAL => local_rank(),
        number => number.parse::<usize>().map_err(|_| {
            misuse(format!("device `{name}`: write a number after the colon, as in cuda:0, or {LOCAL} under MPI"))
        })?,
    };
    Ok(device(kind, index).autodiff())
}

/// The device of a kind that this binary was built with.
#[allow(unused_variables)]
fn device(kind: &str, index: usize) -> Device {
    match kind {
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(index),
        #[cfg(feature = "rocm")]
        "rocm" => Device::rocm(index),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "webgpu")]
        "webgpu" => Device::webgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "metal")]
        "metal" => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "flex")]
        "flex" => Device::flex(),
        _ => unreachable!("the kinds of this binary are those of its features"),
    }
}
