#include "sieve.hpp"

std::vector<unsigned> primes_below(unsigned limit)
{
    std::vector<bool> composite(limit, false);
    std::vector<unsigned> primes;
    for (unsigned candidate = 2; candidate < limit; candidate++) {
        if (composite[candidate])
            continue;
        primes.push_back(candidate);
        for (auto multiple = candidate * 2ul; multiple < limit; multiple += candidate)
            composite[multiple] = true;
    }
    return primes;
}
