//! Activations and other functions of each entry: multiplication by their slope at zero.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor};

use crate::site::activation::Activation;
use crate::site::between::{AtZero, Between, Gained, Traits, between_by_value};
use crate::site::signal::Signal;

/// An elementwise function of the user's own.
#[derive(Debug, Clone, Copy)]
pub struct Elementwise {
    /// The name to use in messages.
    pub name: &'static str,
    /// The function, on a flat tensor.
    pub function: fn(Tensor<1>) -> Tensor<1>,
}

between_by_value!(Activation, Elementwise);

fn of_function() -> Traits {
    Traits { is_factor: true, ..Traits::default() }
}

impl Between for Activation {
    fn name(&self) -> &str {
        Activation::name(self)
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        neurons.map(|entries| self.apply(entries))
    }

    fn linearised(&self, neurons: Signal, slope: f64) -> Signal {
        neurons.scaled(slope)
    }

    fn at_zero(&self, device: &Device) -> Option<AtZero> {
        Some(measured_once(*self, device))
    }

    fn traits(&self) -> Traits {
        of_function()
    }
}

impl Between for Elementwise {
    fn name(&self) -> &str {
        self.name
    }

    fn applied(&self, neurons: Signal, _gained: &Gained) -> Signal {
        neurons.map(|entries| {
            let dims = entries.dims();
            (self.function)(entries.reshape([dims.iter().product::<usize>()])).reshape(dims)
        })
    }

    fn linearised(&self, neurons: Signal, slope: f64) -> Signal {
        neurons.scaled(slope)
    }

    fn at_zero(&self, device: &Device) -> Option<AtZero> {
        Some(AtZero::of(self.function, device))
    }

    fn traits(&self) -> Traits {
        of_function()
    }
}

/// Value and slope of an activation on a device, measured at the first call: on a GPU that compiles and waits for a
/// handful of kernels.
fn measured_once(activation: Activation, device: &Device) -> AtZero {
    type Measured = Vec<(Activation, Device, AtZero)>;
    static MEASURED: Mutex<Measured> = Mutex::new(Vec::new());

    let device = device.clone().inner();
    let known = || MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let is = |(of, on, _): &&(Activation, Device, AtZero)| *of == activation && *on == device;
    if let Some((_, _, at_zero)) = known().iter().find(is) {
        return *at_zero;
    }
    // Without the lock: what is measured may itself run on several threads.
    let at_zero = AtZero::of(|zero| activation.apply(zero), &device);
    known().push((activation, device.clone(), at_zero));
    at_zero
}
