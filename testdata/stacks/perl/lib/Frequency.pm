package Frequency;
use strict;
use warnings;

# The words of a text with how often each occurs, most frequent first.
sub count {
    my ($text) = @_;
    my %seen;
    $seen{ lc $_ }++ for $text =~ /(\w+)/g;
    return map { [ $_, $seen{$_} ] } sort { $seen{$b} <=> $seen{$a} || $a cmp $b } keys %seen;
}

1;
