#pragma once
#include <vector>

/// The primes below `limit`.
std::vector<unsigned> primes_below(unsigned limit);
