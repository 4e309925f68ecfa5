#!/usr/bin/env bash
# Lays out Debian's LLVM 22 where Burn's `cuda` feature looks for an LLVM of its own, so that a build downloads nothing.
#
#   apt-get install llvm-22-dev libzstd-dev zlib1g-dev
#   tools/cuda-llvm.sh DIR
#   XDG_DATA_HOME=DIR CUDARC_CUDA_VERSION=13000 cargo build --release --features cuda
#
# The crate tracel-llvm-bundler 23.1.0-4 takes a folder with headers, static libraries and an `llvm-config` as it is if it
# finds a file `.tracel-llvm-installed` in it. No CUDA toolkit is needed: libcuda is opened when the program runs.
set -euo pipefail
dir="${1:?usage: tools/cuda-llvm.sh DIR}"
llvm=/usr/lib/llvm-22
libraries="/usr/lib/$(uname -m)-linux-gnu"
for needed in "$llvm/bin/llvm-config" "$libraries/libzstd.a" "$libraries/libz.a"; do
  [ -e "$needed" ] || { echo "$needed is missing: apt-get install llvm-22-dev libzstd-dev zlib1g-dev" >&2; exit 1; }
done
bundle="$(mkdir -p "$dir" && cd "$dir" && pwd)/tracel/tracel-llvm-23.1.0-4"
mkdir -p "$bundle/bin" "$bundle/lib"
ln -sfn "$llvm/include" "$bundle/include"
ln -sfn "$llvm"/lib/libLLVM*.a "$libraries/libzstd.a" "$libraries/libz.a" "$bundle/lib/"
# The bundler asks `llvm-config --link-static WHAT`; the libraries are those that generate code for NVIDIA GPUs.
cat > "$bundle/bin/llvm-config" <<WRAPPER
#!/usr/bin/env bash
parts="nvptx x86 core support irreader asmparser bitreader bitwriter linker passes target mc mcjit orcjit
  executionengine interpreter ipo analysis transformutils option"
case "\${2:-}" in
  --libs) "$llvm/bin/llvm-config" --link-static --libs \$parts && echo "-lzstd -lz" ;;
  --system-libs) echo "-lrt -ldl -lm" ;;
  --libdir) echo "$bundle/lib" ;;
  --includedir) echo "$bundle/include" ;;
  *) "$llvm/bin/llvm-config" "\$@" | sed "s#-I[^ ]*/llvm-22/include#-I$bundle/include#g" ;;
esac
WRAPPER
chmod +x "$bundle/bin/llvm-config"
touch "$bundle/.tracel-llvm-installed"
echo "XDG_DATA_HOME=$(cd "$dir" && pwd) CUDARC_CUDA_VERSION=13000 cargo build --release --features cuda"
