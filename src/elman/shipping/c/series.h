
/* Center and scale of the columns of series `series` in training, [MODEL_COLUMNS] each. */
extern const double model_center[MODEL_SERIES][MODEL_COLUMNS], model_scale[MODEL_SERIES][MODEL_COLUMNS];

/* What a row leaves behind for the next one. */
typedef struct {
    float last[MODEL_COLUMNS];
    int age[MODEL_COLUMNS], row_age;
} model_encoder;

void model_encoder_reset(model_encoder *encoder);

/* From a row to the network's inputs [MODEL_INPUTS].
 *   center, scale   of the series' columns, such as model_center[0]
 *   columns         measurements [MODEL_COLUMNS], NAN where missing
 *   turns           where the row stands on the circles of the calendar, 0 to 1 [MODEL_CIRCLES]
 *   known           of columns whose future is known: their values at each row ahead [MODEL_AHEAD][MODEL_KNOWN]
 *   fixed           the numbers that say what the series is [MODEL_FIXED]
 * Where a size is 0, NULL will do. */
void model_encode(model_encoder *encoder, const double *center, const double *scale, const float *columns,
                  const float *turns, const float *known, const float *fixed, float *inputs);

/* One step: the forecast [MODEL_AHEAD][MODEL_LEVELS], scaled, counted from zero (the last value of the target added already). */
void model_step(model_state *state, const float *inputs, float *forecast);

/* Calibrated quantiles [MODEL_HORIZON][MODEL_LEVELS] in the target's unit. */
void model_units(const double *center, const double *scale, const float *forecast, float *quantiles);
