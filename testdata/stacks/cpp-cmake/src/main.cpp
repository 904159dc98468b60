#include "sieve.hpp"
#include <iostream>
#include <string>

int main(int argc, char **argv)
{
    const char *separator = "";
    for (unsigned prime : primes_below(argc > 1 ? std::stoul(argv[1]) : 100)) {
        std::cout << separator << prime;
        separator = " ";
    }
    std::cout << '\n';
}
