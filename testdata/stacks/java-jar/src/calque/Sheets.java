package calque;

import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Prints a stack of sheets, the uppermost first. */
public final class Sheets {
    private Sheets() {}

    public static void main(String[] arguments) {
        String separator = " on ";
        System.out.println(
                Stream.of(arguments).reduce((below, above) -> above + separator + below).orElse("nothing")
                        + Stream.of(arguments).map(Sheet::of).map(Sheet::area).collect(Collectors.toList()));
    }
}
