//! The devices that this binary can compute on.

use anyhow::Result;
use burn::tensor::Device;

use crate::failure::misuse;

/// The device of that name, with automatic differentiation.
pub fn named(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        None => (name, 0),
        Some((kind, index)) => {
            let index = index.parse::<usize>();
            (kind, index.map_err(|_| misuse(format!("--device {name}: write a number after the colon, as in cuda:0")))?)
        }
    };
    let _ = index;
    let device = match kind {
        #[cfg(feature = "flex")]
        "flex" => Device::flex(),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(index),
        #[cfg(feature = "rocm")]
        "rocm" => Device::rocm(index),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "metal")]
        "metal" => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        "flex" | "cuda" | "rocm" | "wgpu" | "vulkan" | "metal" => {
            return Err(misuse(format!(
                "this binary was built without `{kind}`; build it with `cargo build --release --features {kind}`"
            )));
        }
        _ => {
            return Err(misuse(format!(
                "there is no device `{name}`; the devices are: flex, cuda:N, rocm:N, wgpu, vulkan, metal"
            )));
        }
    };
    Ok(device.autodiff())
}
