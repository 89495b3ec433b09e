/* What both kinds of models share. A step takes about as many multiplications as there are weights; nothing is allocated. */

typedef struct {
    float carry[MODEL_MEMBERS][MODEL_LAYERS][MODEL_CARRY]; /* h, and c behind it for an LSTM */
    float projected[MODEL_GATES], recurrent[MODEL_GATES];  /* room to compute in */
    float below[MODEL_HIDDEN], raw[MODEL_OUTPUTS];
} model_state;

/* The state before the first step: zeros. */
void model_reset(model_state *state);
