package calque;

record Sheet(int width, int height) {
    static Sheet of(String name) {
        return new Sheet(name.length(), 2);
    }

    int area() {
        return width * height;
    }
}
