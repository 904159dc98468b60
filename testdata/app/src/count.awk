# Counts the words of a text.
{
    line = tolower($0)
    gsub(/[^a-z]+/, " ", line)
    n = split(line, words, " ")
    for (i = 1; i <= n; i++) count[words[i]]++
}
END { for (word in count) print count[word], word }
