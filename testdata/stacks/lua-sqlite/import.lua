-- Turns lines `name,grams` into statements of SQL.
print("BEGIN;")
for line in io.lines(arg[1]) do
    local name, grams = line:match("^([^,]+),(%d+)$")
    assert(name, "not a paper: " .. line)
    print(string.format("INSERT INTO papers VALUES ('%s', %d);", (name:gsub("'", "''")), tonumber(grams)))
end
print("COMMIT;")
