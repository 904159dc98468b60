use strict;
use warnings;
use Frequency;

my @counted = Frequency::count("a b A c b a");
my $got     = join ' ', map {"$_->[0]=$_->[1]"} @counted;
print "1..1\n", $got eq 'a=3 b=2 c=1' ? '' : 'not ', "ok 1 - $got\n";
exit($got ne 'a=3 b=2 c=1');
