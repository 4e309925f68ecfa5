//! Weights in files of other programs: safetensors, and what PyTorch saves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use burn::module::{ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Tensor, TensorData};
use gradmax::networks::{Array, Described};
use gradmax::site::SiteWidth;
use pytorch_reader::PytorchReader;
use safetensors::SafeTensors;

use crate::failure::{caught, misuse};

/// The weights of a file, by the names that a network has for them.
pub struct Weights {
    file: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// A weight as it lies in a file.
struct Entry {
    shape: Vec<usize>,
    /// The type of its entries, if that is one of floats.
    dtype: Option<DType>,
    bytes: Vec<u8>,
}

/// New names of weights, or of all weights whose names begin so; an empty one leaves them out.
pub type Renames = BTreeMap<String, String>;

/// Said of networks that cannot be told in operations.
pub const NO_GRAPH: &str =
    "transformers are not written as ONNX models yet; `--format safetensors` and `--format burn` keep the weights";

impl Weights {
    /// Reads a file by what its name ends with: `.safetensors`, or `.pt`, `.pth` or `.bin`.
    ///
    /// # Errors
    /// If the file cannot be read, is of neither kind, or two of its weights get the same name.
    pub fn read(file: &Path, renames: &Renames) -> Result<Self> {
        let read = match file.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => read_safetensors,
            Some("pt" | "pth" | "bin") => read_pytorch,
            _ => {
                return Err(misuse(format!(
                    "{} is no file of weights that is read: safetensors, or PyTorch's .pt, .pth and .bin",
                    file.display()
                )));
            }
        };
        let given = caught(|| read(file)).with_context(|| format!("cannot read the weights in {}", file.display()))?;
        let mut entries = BTreeMap::new();
        for (name, entry) in given {
            let Some(own) = renamed(&name, renames) else { continue };
            if entries.insert(own.clone(), entry).is_some() {
                return Err(misuse(format!(
                    "{}: after renaming, two weights are called `{own}`, one of them `{name}` in the file",
                    file.display()
                )));
            }
        }
        Ok(Self { file: file.to_path_buf(), entries })
    }

    /// The widths of a network's sites in this file: the outputs of the layers that write them.
    pub fn widths(&self, network: &impl Described, sites: &[SiteWidth]) -> Vec<usize> {
        let written = |site: &SiteWidth| {
            let (weight, axis, layers) = network.written_by(&site.site)?;
            self.entries.get(&weight)?.shape.get(axis).map(|length| length / layers)
        };
        sites.iter().map(|site| written(site).unwrap_or(site.width)).collect()
    }

    /// The embedding in place of an output layer that shares it, as GPT-2's does.
    fn tied(&self, name: &str) -> Option<&Entry> {
        let embeddings = ["transformer.wte.weight", "model.embed_tokens.weight"];
        embeddings.iter().filter(|_| name == "lm_head.weight").find_map(|embedding| self.entries.get(*embedding))
    }

    /// The network with these weights in place of its own; an output layer that shares the embedding's gets a copy.
    ///
    /// # Errors
    /// A list of everything that does not fit, unless each weight of the one has its place in the other.
    pub fn fill<N: Described>(&self, network: N) -> Result<N> {
        let wanted = network.weights();
        let mut problems = Vec::new();
        let mut values = BTreeMap::new();
        for (name, array) in &wanted {
            match self.entries.get(name).or_else(|| self.tied(name)) {
                None => problems.push(format!("`{name}` {:?} is not in the file", array.shape)),
                Some(entry) if entry.shape != array.shape => {
                    problems.push(format!("`{name}` is {:?} in the file and {:?} here", entry.shape, array.shape));
                }
                Some(entry) => match entry.values() {
                    Ok(data) => values.extend(parts(array, data).map(|(of, part)| (of, (part, array.transposed)))),
                    Err(error) => problems.push(format!("`{name}` {error}")),
                },
            }
        }
        let known = wanted.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>();
        let left = self.entries.iter().filter(|(name, _)| !known.contains(name.as_str()));
        problems.extend(left.map(|(name, entry)| {
            format!("`{name}` {:?} is in the file only; an empty name in `network.rename` leaves it out", entry.shape)
        }));
        if !problems.is_empty() {
            return Err(misuse(format!(
                "the weights in {} are not those of this network:\n  {}",
                self.file.display(),
                problems.join("\n  ")
            )));
        }
        Ok(network.map(&mut Filling { values }))
    }
}

/// The entries of each parameter that an array holds.
fn parts(array: &Array, data: TensorData) -> impl Iterator<Item = (ParamId, TensorData)> {
    let shape = data.shape().to_vec();
    let (length, entries) = (shape.last().copied().unwrap_or(1), data.iter::<f32>().collect::<Vec<_>>());
    let mut first = 0;
    array.parameters.iter().map(move |(parameter, count)| {
        let own = entries.chunks(length.max(1)).flat_map(|row| &row[first..first + count]).copied();
        let mut shape = shape.clone();
        shape.pop();
        shape.push(*count);
        let part = TensorData::new(own.collect(), shape);
        first += count;
        (*parameter, part)
    })
}

/// What a weight is called here; none if it is left out.
fn renamed(name: &str, renames: &Renames) -> Option<String> {
    // Counters of batches, which no other program has a use for.
    if name.ends_with(".num_batches_tracked") {
        return None;
    }
    let begins = |from: &str| name.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('.'));
    let longest = renames.iter().filter(|(from, _)| begins(from).is_some()).max_by_key(|(from, _)| from.len());
    match longest {
        None => Some(name.into()),
        Some((_, to)) if to.is_empty() => None,
        Some((from, to)) => Some(format!("{to}{}", begins(from).unwrap_or_default())),
    }
}

impl Entry {
    fn values(&self) -> Result<TensorData> {
        let dtype = self.dtype.ok_or_else(|| anyhow!("holds no floating-point numbers"))?;
        let data = TensorData::from_bytes_vec(self.bytes.clone(), self.shape.clone(), dtype);
        let values = data.iter::<f32>().collect::<Vec<_>>();
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(TensorData::new(values, self.shape.clone())),
            false => bail!("holds numbers that are not finite"),
        }
    }
}

fn read_safetensors(file: &Path) -> Result<Vec<(String, Entry)>> {
    use safetensors::Dtype;
    let bytes = std::fs::read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let entry = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let dtype = match tensor.dtype() {
            Dtype::F64 => Some(DType::F64),
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        };
        (name, Entry { shape: tensor.shape().to_vec(), dtype, bytes: tensor.data().to_vec() })
    };
    Ok(tensors.tensors().into_iter().map(entry).collect())
}

fn read_pytorch(file: &Path) -> Result<Vec<(String, Entry)>> {
    use pytorch_reader::DType as Kind;
    let entry = |(name, tensor): (String, pytorch_reader::Tensor)| {
        let dtype = match tensor.dtype() {
            Kind::F64 => Some(DType::F64),
            Kind::F32 => Some(DType::F32),
            Kind::F16 => Some(DType::F16),
            Kind::BF16 => Some(DType::BF16),
            _ => None,
        };
        Ok((name, Entry { shape: tensor.shape().to_vec(), dtype, bytes: tensor.read()? }))
    };
    PytorchReader::new(file)?.into_tensors().into_iter().map(entry).collect()
}

/// Puts values into parameters.
struct Filling {
    /// The values of each parameter, and whether its axes lie the other way round.
    values: BTreeMap<ParamId, (TensorData, bool)>,
}

impl ModuleMapper for Filling {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((data, transposed)) = self.values.remove(&param.id) else {
            return param;
        };
        param.map(|old| {
            let (tracked, autodiff) = (old.is_require_grad(), old.is_autodiff());
            let old = old.inner();
            let new = Tensor::<D>::from_data(data, (&old.device(), old.dtype()));
            let new = if transposed { new.swap_dims(0, 1) } else { new };
            match autodiff {
                true => new.autodiff().set_require_grad(tracked),
                false => new,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};
    use gradmax::Seed;
    use gradmax::modules::NormKind;
    use gradmax::networks::{
        Architecture, GptConfig, MlpConfig, Positions, TransformerBlock, TransformerNorm, WideResNetConfig,
    };
    use gradmax::site::{Activation, Growable};

    use super::*;
    use crate::network::Shape;
    use crate::pytorch::exported;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let file = std::env::temp_dir().join(format!("gradmax-weights-{name}-{}.safetensors", std::process::id()));
        std::fs::write(&file, bytes).unwrap();
        file
    }

    fn network(shape: &Shape, seed: u64) -> crate::network::Network {
        shape.init(Seed::new(seed), &Device::flex()).unwrap()
    }

    #[test]
    fn exported_weights_come_back_at_the_widths_of_the_file() {
        let wide = WideResNetConfig { norm: NormKind::Batch, ..WideResNetConfig::new(10, 1, 0.25) };
        let seed = Shape::WideResNet(wide.with_growing_streams(0.25));
        let widths = seed.site_widths().iter().enumerate().map(|(at, site)| site.width + at).collect::<Vec<_>>();
        let grown = network(&seed.with_site_widths(&widths), 1);
        let weights = Weights::read(&file("wide", &exported(&grown, &[])), &Renames::new()).unwrap();
        assert_eq!(weights.widths(&network(&seed, 2), &seed.site_widths()), widths);
        let filled = weights.fill(network(&seed.with_site_widths(&widths), 3)).unwrap();
        let inputs = Tensor::<4>::ones([2, 3, 32, 32], &Device::flex());
        let inputs = crate::reading::Reading::Maps(inputs);
        assert_eq!(filled.forward(inputs.clone()).into_data(), grown.forward(inputs).into_data());
    }

    #[test]
    fn transformers_come_back_and_a_shared_output_layer_is_a_copy() {
        let block = |heads, neurons| TransformerBlock { heads, neurons };
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(vec![1_i32, 4, 2, 6], [1, 4]), &Device::flex());
        let tokens = crate::reading::Reading::Tokens(tokens);
        for (norm, positions, gated) in [
            (TransformerNorm::Layer, Positions::Learned, false),
            (TransformerNorm::Rms, Positions::Rotary, true),
            (TransformerNorm::Layer, Positions::Rotary, false),
        ] {
            let (blocks, activation) = (vec![block(1, 5), block(3, 0)], Activation::Silu);
            let shape =
                GptConfig { vocabulary: 7, context: 4, width: 6, head: 2, blocks, norm, positions, activation, gated };
            let grown = network(&Shape::Gpt(shape.clone()), 1);
            let seed = Shape::Gpt(shape.with_site_widths(&[2, 1, 2, 1]));
            let name = format!("gpt{norm:?}{positions:?}");
            let weights = Weights::read(&file(&name, &exported(&grown, &[])), &Renames::new()).unwrap();
            let widths = weights.widths(&network(&seed, 2), &seed.site_widths());
            assert_eq!(widths, [2, 5, 6, 0], "{name}");
            let filled = weights.fill(network(&seed.with_site_widths(&widths), 3)).unwrap();
            assert_eq!(filled.forward(tokens.clone()).into_data(), grown.forward(tokens.clone()).into_data(), "{name}");

            let without = Renames::from([("lm_head".to_string(), String::new())]);
            let weights = Weights::read(&file(&format!("tied{name}"), &exported(&grown, &[])), &without).unwrap();
            let tied = weights.fill(network(&Shape::Gpt(shape), 3)).unwrap();
            let of = |ending: &str| {
                let named = tied.weights().into_iter().find(|(name, _)| name.ends_with(ending));
                named.unwrap().1.values
            };
            let embedding =
                if norm == TransformerNorm::Layer && positions == Positions::Learned { "wte" } else { "embed_tokens" };
            assert_eq!(of("lm_head.weight"), of(&format!("{embedding}.weight")), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_listed_whole() {
        let shape = |hidden: &[usize]| Shape::Mlp(MlpConfig::new(4, hidden, 2, Activation::Relu));
        let bytes = exported(&network(&shape(&[3, 5]), 1), &[]);
        let renames = Renames::from([("dense1.bias".into(), "other.bias".into())]);
        let weights = Weights::read(&file("misfit", &bytes), &renames).unwrap();
        let error = weights.fill(network(&shape(&[3]), 2)).unwrap_err().to_string();
        for problem in [
            "`dense1.bias` [3] is not in the file",
            "`dense2.weight` is [5, 3] in the file and [2, 3] here",
            "`dense2.bias` is [5] in the file and [2] here",
            "`dense3.weight` [2, 5] is in the file only",
            "`other.bias` [3] is in the file only",
        ] {
            assert!(error.contains(problem), "{problem}: {error}");
        }
    }

    #[test]
    fn names_are_changed_at_their_dots_and_the_longest_rule_counts() {
        let renames = [("fc", "dense1"), ("fc.deep", "dense2"), ("optimizer", "")];
        let renames = renames.map(|(from, to)| (from.to_string(), to.to_string())).into();
        for (name, becomes) in [
            ("fc.weight", Some("dense1.weight")),
            ("fc.deep.weight", Some("dense2.weight")),
            ("fcx.weight", Some("fcx.weight")),
            ("optimizer.state.0", None),
            ("norm.num_batches_tracked", None),
        ] {
            assert_eq!(renamed(name, &renames).as_deref(), becomes, "{name}");
        }
        let shape = Shape::Mlp(MlpConfig::new(4, &[3], 2, Activation::Relu));
        let bytes = exported(&network(&shape, 1), &[]);
        let same = Renames::from([("dense1".into(), "dense2".into())]);
        assert!(Weights::read(&file("same", &bytes), &same).err().unwrap().to_string().contains("two weights"));
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let shape = Shape::Mlp(MlpConfig::new(4, &[3], 2, Activation::Relu));
        let bytes = exported(&network(&shape, 1), &[]);
        for (name, bytes) in [("empty", &[][..]), ("short", &bytes[..bytes.len() - 5]), ("noise", &[200; 64])] {
            let file = file(name, bytes);
            let error = format!("{:#}", Weights::read(&file, &Renames::new()).err().unwrap());
            assert!(error.contains(&file.display().to_string()), "{error}");
            let torch = file.with_extension("pt");
            std::fs::rename(&file, &torch).unwrap();
            let error = format!("{:#}", Weights::read(&torch, &Renames::new()).err().unwrap());
            assert!(error.contains(&torch.display().to_string()), "{error}");
        }
        let other = Weights::read(Path::new("weights.h5"), &Renames::new()).err().unwrap().to_string();
        assert!(other.contains("weights.h5") && other.contains("safetensors"), "{other}");
    }
}
