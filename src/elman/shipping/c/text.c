
void model_step(model_state *state, int symbol, float *logits) {
    if (symbol < 0 || symbol >= MODEL_INPUTS) symbol = 0;
    model_member(state, 0, symbol, NULL);
    memcpy(logits, state->raw, sizeof state->raw);
}

int model_read(const char *text, size_t length, size_t *used) {
    for (int symbol = 0; symbol < MODEL_INPUTS; symbol++) {
        const size_t size = model_symbol_sizes[symbol];
        if (size <= length && memcmp(text, model_symbols[symbol], size) == 0) {
            *used = size;
            return symbol;
        }
    }
    *used = length ? 1 : 0;
    return -1;
}

const char *model_symbol(int symbol, size_t *length) {
    if (symbol < 0 || symbol >= MODEL_INPUTS) symbol = 0;
    *length = model_symbol_sizes[symbol];
    return model_symbols[symbol];
}

int model_draw(const float *logits, float temperature, uint32_t *seed) {
    int likeliest = 0;
    for (int j = 1; j < MODEL_OUTPUTS; j++)
        if (logits[j] > logits[likeliest]) likeliest = j;
    if (temperature <= 0.0f) return likeliest;
    uint32_t bits = *seed ? *seed : 1u;
    bits ^= bits << 13;
    bits ^= bits >> 17;
    bits ^= bits << 5;
    *seed = bits;
    double total = 0.0, sum = 0.0;
    for (int j = 0; j < MODEL_OUTPUTS; j++) total += exp((double)(logits[j] - logits[likeliest]) / (double)temperature);
    const double threshold = total * ((double)bits / 4294967296.0);
    for (int j = 0; j < MODEL_OUTPUTS; j++) {
        sum += exp((double)(logits[j] - logits[likeliest]) / (double)temperature);
        if (sum > threshold) return j;
    }
    return likeliest;
}
