
#if MODEL_CELL != 0
static float model_sigmoid(float x) { return 0.5f * tanhf(0.5f * x) + 0.5f; }
#endif

void model_reset(model_state *state) { memset(state, 0, sizeof *state); }

/* out += x W, for W stored row by row. */
static void model_product(const float *x, int rows, const float *weight, int columns, float *out) {
    for (int i = 0; i < rows; i++) {
        const float value = x[i], *row = weight + (size_t)i * (size_t)columns;
        for (int j = 0; j < columns; j++) out[j] += value * row[j];
    }
}

/* From both pre-activations to the new carry. */
static void model_combine(const float *projected, const float *recurrent, float *carry) {
    for (int j = 0; j < MODEL_HIDDEN; j++) {
#if MODEL_CELL == 0
        const float summed = projected[j] + recurrent[j];
        carry[j] = MODEL_RELU ? (summed > 0.0f ? summed : 0.0f) : tanhf(summed);
#elif MODEL_CELL == 1
        const float reset = model_sigmoid(projected[j] + recurrent[j]);
        const float keep = model_sigmoid(projected[MODEL_HIDDEN + j] + recurrent[MODEL_HIDDEN + j]);
        const float candidate = tanhf(projected[2 * MODEL_HIDDEN + j] + reset * recurrent[2 * MODEL_HIDDEN + j]);
        carry[j] = candidate + keep * (carry[j] - candidate);
#else
        const float in = model_sigmoid(projected[j] + recurrent[j]);
        const float forget = model_sigmoid(projected[MODEL_HIDDEN + j] + recurrent[MODEL_HIDDEN + j]);
        const float candidate = tanhf(projected[2 * MODEL_HIDDEN + j] + recurrent[2 * MODEL_HIDDEN + j]);
        const float out = model_sigmoid(projected[3 * MODEL_HIDDEN + j] + recurrent[3 * MODEL_HIDDEN + j]);
        carry[MODEL_HIDDEN + j] = forget * carry[MODEL_HIDDEN + j] + in * candidate;
        carry[j] = out * tanhf(carry[MODEL_HIDDEN + j]);
#endif
    }
}

/* What a layer hands upwards: its h, normalized and added to what stands in `below` where the network does that. */
static void model_upwards(const model_layer *layer, const float *hidden, int add, float *below) {
    float mean = 0.0f, variance = 0.0f;
    if (layer->norm_scale) {
        for (int j = 0; j < MODEL_HIDDEN; j++) mean += hidden[j] / MODEL_HIDDEN;
        for (int j = 0; j < MODEL_HIDDEN; j++) variance += (hidden[j] - mean) * (hidden[j] - mean) / MODEL_HIDDEN;
    }
    const float spread = sqrtf(variance + 1e-5f);
    for (int j = 0; j < MODEL_HIDDEN; j++) {
        const float value =
            layer->norm_scale ? (hidden[j] - mean) / spread * layer->norm_scale[j] + layer->norm_shift[j] : hidden[j];
        below[j] = add ? below[j] + value : value;
    }
}

/* One member, up to what its head says; symbol: -1 where the inputs are numbers. */
static void model_member(model_state *state, int member, int symbol, const float *inputs) {
    for (int number = 0; number < MODEL_LAYERS; number++) {
        const model_layer *layer = &model_layers[member * MODEL_LAYERS + number];
        float *carry = state->carry[member][number];
        memcpy(state->projected, layer->bias, sizeof state->projected);
        if (number > 0)
            model_product(state->below, MODEL_HIDDEN, layer->weight_inputs, MODEL_GATES, state->projected);
        else if (symbol < 0)
            model_product(inputs, MODEL_INPUTS, layer->weight_inputs, MODEL_GATES, state->projected);
        else
            for (int j = 0; j < MODEL_GATES; j++)
                state->projected[j] += layer->weight_inputs[(size_t)symbol * MODEL_GATES + (size_t)j];
        if (layer->bias_hidden)
            memcpy(state->recurrent, layer->bias_hidden, sizeof state->recurrent);
        else
            memset(state->recurrent, 0, sizeof state->recurrent);
        model_product(carry, MODEL_HIDDEN, layer->weight_hidden, MODEL_GATES, state->recurrent);
        model_combine(state->projected, state->recurrent, carry);
        model_upwards(layer, carry, MODEL_RESIDUAL && number > 0, state->below);
    }
    memcpy(state->raw, model_head_bias[member], sizeof state->raw);
    model_product(state->below, MODEL_HIDDEN, model_head_weight[member], MODEL_OUTPUTS, state->raw);
}
