// All arithmetic, compiled once for each instruction set: ELMAN_NAME and ELMAN_TABLE name what comes out.
#include "classic.h"
#include "gradients.h"
#include "head.h"
#include "recurrence.h"
#include "sampling.h"

namespace elman {

extern const Kernels ELMAN_TABLE;
const Kernels ELMAN_TABLE = {ELMAN_NAME,     kLanes,       forward,       backward, weight_gradient,
                             input_gradient, head_forward, head_backward, classic, sample};

}  // namespace elman
