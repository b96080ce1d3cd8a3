package lang;

public class JavaTest {
    public static void main(String[] args) {
        System.exit("lazy".length() == 4 ? 0 : 1);
    }
}
