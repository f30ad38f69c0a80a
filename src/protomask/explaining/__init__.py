"""Why a mask is as it is: prototypes, coefficients, competition and leakage of one image, and what padding reveals."""
