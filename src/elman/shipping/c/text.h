
/* One step: reads a symbol's number, gives the logits [MODEL_OUTPUTS] of the next one. */
void model_step(model_state *state, int symbol, float *logits);

/* The number of the symbol that `text` begins with, and how many bytes it takes; -1 where the model does not know it. */
int model_read(const char *text, size_t length, size_t *used);

/* The bytes of a symbol (UTF-8; not closed by a zero), and how many. */
const char *model_symbol(int symbol, size_t *length);

/* Draws a symbol. temperature 0: the likeliest one. seed: any number but 0, changed by each call (xorshift32, Marsaglia 2003). */
int model_draw(const float *logits, float temperature, uint32_t *seed);
