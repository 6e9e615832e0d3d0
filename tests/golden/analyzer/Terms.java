import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.lucene.analysis.*;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.standard.StandardTokenizer;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;

/** Reads texts as lines of base64, writes the terms of each on a line, apart by spaces. Argument: words or english. */
public class Terms {
    public static void main(String[] arguments) throws IOException {
        Analyzer analyzer = arguments[0].equals("english") ? new EnglishAnalyzer() : new Analyzer() {
            @Override protected TokenStreamComponents createComponents(String field) {
                return new TokenStreamComponents(new StandardTokenizer());
            }
        };
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out), false, "UTF-8");
        for (String line; (line = in.readLine()) != null;) {
            String text = new String(Base64.getDecoder().decode(line), StandardCharsets.UTF_8);
            StringBuilder terms = new StringBuilder();
            try (TokenStream stream = analyzer.tokenStream("text", text)) {
                CharTermAttribute term = stream.addAttribute(CharTermAttribute.class);
                stream.reset();
                while (stream.incrementToken()) terms.append(terms.length() > 0 ? " " : "").append(term);
                stream.end();
            }
            out.print(terms + "\n");
        }
        out.flush();
    }
}
