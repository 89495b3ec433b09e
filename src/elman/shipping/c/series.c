
static float model_softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))); }

void model_step(model_state *state, const float *inputs, float *forecast) {
    for (int j = 0; j < MODEL_OUTPUTS; j++) forecast[j] = inputs[MODEL_ANCHOR];
    for (int member = 0; member < MODEL_MEMBERS; member++) {
        model_member(state, member, -1, inputs);
        for (int row = 0; row < MODEL_AHEAD; row++) {
            const float *raw = state->raw + row * MODEL_LEVELS;
            float *said = forecast + row * MODEL_LEVELS;
            float above = raw[MODEL_MIDDLE], below = raw[MODEL_MIDDLE];
            said[MODEL_MIDDLE] += raw[MODEL_MIDDLE] / MODEL_MEMBERS;
            for (int level = MODEL_MIDDLE + 1; level < MODEL_LEVELS; level++)
                said[level] += (above += model_softplus(raw[level])) / MODEL_MEMBERS;
            for (int level = MODEL_MIDDLE - 1; level >= 0; level--)
                said[level] += (below -= model_softplus(raw[level])) / MODEL_MEMBERS;
        }
    }
}

void model_encoder_reset(model_encoder *encoder) {
    memset(encoder, 0, sizeof *encoder);
    for (int c = 0; c < MODEL_COLUMNS; c++) encoder->age[c] = 255;
    encoder->row_age = 255;
}

static int model_older(int age) { return age < 255 ? age + 1 : 255; }

static float model_age(int age) { return log1pf((float)age) / log1pf(255.0f); }

void model_encode(model_encoder *encoder, const double *center, const double *scale, const float *columns,
                  const float *turns, const float *known, const float *fixed, float *inputs) {
    int at = 0, seen = 0;
    for (int c = 0; c < MODEL_COLUMNS; c++) {
        if (isnan(columns[c])) {
            encoder->age[c] = model_older(encoder->age[c]);
        } else {
            encoder->last[c] = (float)(((double)columns[c] - center[c]) / scale[c]);
            encoder->age[c] = 0;
            seen = 1;
        }
    }
    encoder->row_age = seen ? 0 : model_older(encoder->row_age);
    for (int i = 0; i < MODEL_PLAIN; i++) inputs[at++] = encoder->last[model_plain[i]];
    for (int i = 0; i < MODEL_DIRECTIONS; i++) inputs[at++] = sinf(encoder->last[model_directions[i]]);
    for (int i = 0; i < MODEL_DIRECTIONS; i++) inputs[at++] = cosf(encoder->last[model_directions[i]]);
    inputs[at++] = model_age(encoder->row_age);
    for (int i = 0; i < MODEL_MASKED; i++) inputs[at++] = encoder->age[model_masked[i]] == 0 ? 1.0f : 0.0f;
    for (int i = 0; i < MODEL_MASKED; i++) inputs[at++] = model_age(encoder->age[model_masked[i]]);
    for (int i = 0; i < MODEL_CIRCLES; i++) inputs[at++] = sinf(6.2831853f * turns[i]);
    for (int i = 0; i < MODEL_CIRCLES; i++) inputs[at++] = cosf(6.2831853f * turns[i]);
    for (int row = 0; row < MODEL_AHEAD; row++)
        for (int i = 0; i < MODEL_KNOWN; i++) {
            const int c = model_known[i];
            inputs[at++] = (float)(((double)known[row * MODEL_KNOWN + i] - center[c]) / scale[c]);
        }
    for (int i = 0; i < MODEL_FIXED; i++)
        inputs[at++] = (float)(((double)fixed[i] - model_fixed_center[i]) / model_fixed_scale[i]);
}

/* Sorts a few numbers. */
static void model_sort(double *values, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && values[j - 1] > values[j]; j--) {
            const double held = values[j];
            values[j] = values[j - 1];
            values[j - 1] = held;
        }
}

void model_units(const double *center, const double *scale, const float *forecast, float *quantiles) {
    for (int row = 0; row < MODEL_HORIZON; row++) {
        const float *said = forecast + model_horizon[row] * MODEL_LEVELS;
        const double point = (double)said[MODEL_MIDDLE];
        double moved[MODEL_LEVELS];
        for (int level = 0; level < MODEL_LEVELS; level++) {
            moved[level] = (double)said[level] + model_shifts[row][level];
            if (MODEL_KEEP_MIDDLE && level < MODEL_MIDDLE && moved[level] > point) moved[level] = point;
            if (MODEL_KEEP_MIDDLE && level > MODEL_MIDDLE && moved[level] < point) moved[level] = point;
        }
        if (MODEL_KEEP_MIDDLE) moved[MODEL_MIDDLE] = point;
        model_sort(moved, MODEL_LEVELS);
        for (int level = 0; level < MODEL_LEVELS; level++)
            quantiles[row * MODEL_LEVELS + level] = (float)(moved[level] * scale[MODEL_TARGET] + center[MODEL_TARGET]);
    }
}
