#include "launch.cuh"

namespace fastrnn::cuda {
FASTRNN_CUDA_LAUNCHERS(float)
}
