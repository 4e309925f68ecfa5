//! How a kernel becomes an operation of Burn: tensors in and out, and the backward pass.

use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, DispatchDevice, Flex, GradientCheckpointingStrategy};
use burn::tensor::{DType, Shape, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{FlexTensor, Layout};

use crate::gradient::show;

type Graph = Autodiff<Flex, NoCheckpointing>;
type Tracked = FloatTensor<Graph>;

/// A tensor on the CPU, in order and in single precision, that may be part of a graph.
pub(crate) struct Operand {
    values: FlexTensor,
    tracked: Option<Tracked>,
}

impl Operand {
    /// The tensor, if it is one that kernels can read: on `flex`, in single precision, without gradient checkpointing.
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        match tensor.device().as_dispatch() {
            DispatchDevice::Flex(_) => {
                let values = tensor.clone().try_into_primitive::<Flex>().ok()?;
                Some(Self { values: values.to_contiguous(), tracked: None })
            }
            DispatchDevice::Autodiff(device)
                if device.gradient_checkpointing_strategy() == GradientCheckpointingStrategy::Disabled =>
            {
                let tracked = tensor.clone().try_into_primitive::<Graph>().ok()?;
                Some(Self { values: tracked.primitive().to_contiguous(), tracked: Some(tracked) })
            }
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// What tells the tensor from others in a graph.
    pub(crate) fn key(&self) -> Option<u64> {
        self.tracked.as_ref().map(|tracked| tracked.node().id().value)
    }

    /// Whether it is part of a graph, so that a backward pass may come.
    pub(crate) fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// The entries, shared with the tensor.
    pub(crate) fn values(&self) -> Values {
        Values(self.values.clone())
    }
}

/// Entries of a tensor, in order.
#[derive(Clone, Debug)]
pub(crate) struct Values(FlexTensor);

impl Values {
    /// The entries.
    pub(crate) fn get(&self) -> &[f32] {
        self.0.as_slice().expect("operands are in order and in single precision")
    }

    /// The entries to write to, if no other tensor shares them; else none.
    pub(crate) fn get_mut(&mut self) -> Option<&mut [f32]> {
        let (start, end) = self.0.layout().contiguous_offsets()?;
        self.0.try_storage_mut::<f32>().map(|values| &mut values[start..end])
    }

    fn new<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Self {
        let layout = Layout::contiguous(Shape::from(shape));
        Self(FlexTensor::new(burn::tensor::Bytes::from_elems(values), layout, DType::F32))
    }
}

/// Gradients of the operands, in their shapes; none for those that need none.
pub(crate) type Gradient = Option<Values>;

/// The backward pass of an operation of `N` operands: from the output's gradient, and which operands need one.
type BackwardPass<const N: usize> = dyn Fn(Values, [bool; N]) -> [Gradient; N] + Send + Sync;

#[derive(Clone)]
struct State<const N: usize>(Arc<BackwardPass<N>>);

impl<const N: usize> fmt::Debug for State<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("flexconv")
    }
}

#[derive(Debug)]
struct Operation;

impl<const N: usize> Backward<Flex, N> for Operation {
    type State = State<N>;

    fn backward(self, ops: Ops<State<N>, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Values(gradients.consume::<Flex>(&ops.node).to_contiguous());
        let needed = ops.parents.each_ref().map(Option::is_some);
        let of_operands = ops.state.0(gradient, needed);
        for (parent, gradient) in ops.parents.into_iter().zip(of_operands) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                show(parent.id.value, gradient.get());
                gradients.register::<Flex>(parent.id, gradient.0);
            }
        }
    }
}

/// Values of a shape.
pub(crate) fn values<const D: usize>(entries: Vec<f32>, shape: [usize; D]) -> Values {
    Values::new(entries, shape)
}

/// The output of an operation as a tensor, part of the graph if an operand is.
pub(crate) fn output<const N: usize, const D: usize>(
    operands: [Operand; N],
    output: Values,
    backward: impl Fn(Values, [bool; N]) -> [Gradient; N] + Send + Sync + 'static,
) -> Tensor<D> {
    if operands.iter().all(|operand| operand.tracked.is_none()) {
        return Tensor::from_primitive::<Flex>(output.0);
    }
    let nodes = operands.map(|operand| operand.tracked.unwrap_or_else(|| Tracked::new(operand.values)).node());
    let tracked = match Operation.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(State(Arc::new(backward)), output.0),
        OpsKind::UnTracked(prepared) => prepared.finish(output.0),
    };
    Tensor::from_primitive::<Graph>(tracked)
}

/// Values as a tensor that is a constant, on the device of the operand.
pub(crate) fn constant<const D: usize>(like: &Operand, values: Values) -> Tensor<D> {
    match like.tracked {
        None => Tensor::from_primitive::<Flex>(values.0),
        Some(_) => Tensor::from_primitive::<Graph>(Tracked::new(values.0)),
    }
}
