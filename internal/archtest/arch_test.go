package archtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goPackage is what go list says of a package.
type goPackage struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string
	Standard        bool
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-pgo=off", "-json=Dir,ImportPath,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	rules := map[string]rule{}
	for _, r := range table {
		rules[r.of] = r
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		r, ok := rules[name]
		if !ok {
			t.Errorf("%s: no row in the table of internal/archtest", name)
			continue
		}
		delete(rules, name)
		for _, imp := range p.Imports {
			if inner, ours := strings.CutPrefix(imp, module+"/"); ours {
				if !slices.Contains(r.may, inner) {
					t.Errorf("%s imports %s; it may import %v", name, inner, r.may)
				}
				continue
			}
			if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && r.standardOnly {
				t.Errorf("%s imports %s; it may import the standard library only", name, imp)
			}
			for _, limited := range limits {
				if match(imp, limited.imported) && !slices.ContainsFunc(limited.to, func(to string) bool { return match(name, to) }) {
					t.Errorf("%s imports %s; only %v may", name, imp, limited.to)
				}
			}
		}
	}
	for name := range rules {
		t.Errorf("%s: in the table, and there is no such package", name)
	}
}

// TestArchitectureQuotesTheTable keeps what people read equal to what is
// checked.
func TestArchitectureQuotesTheTable(t *testing.T) {
	const begin, end = "<!-- imports:begin -->\n", "<!-- imports:end -->"
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok1 := strings.Cut(string(text), begin)
	quoted, _, ok2 := strings.Cut(rest, end)
	if want := markdown(); !ok1 || !ok2 || quoted != want {
		t.Errorf("ARCHITECTURE.md does not quote the table; between its marks must stand:\n%s", want)
	}
}

// TestExportedHaveComments fails for what others may use and nobody explained.
func TestExportedHaveComments(t *testing.T) {
	checked := 0
	for _, p := range packages(t) {
		packageDoc := false
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			packageDoc = packageDoc || f.Doc != nil
			missing := func(at token.Pos, what string) { t.Errorf("%s: %s has no comment", fset.Position(at), what) }
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if !d.Name.IsExported() || !exportedReceiver(d) {
						continue
					}
					checked++
					if d.Doc == nil {
						missing(d.Pos(), d.Name.Name)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.TypeSpec:
							checked++
							if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
								missing(s.Pos(), s.Name.Name)
							}
						case *ast.ValueSpec:
							checked++
							if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
								missing(s.Pos(), s.Names[0].Name)
							}
						}
					}
				}
			}
		}
		if !packageDoc {
			t.Errorf("%s: the package has no comment", p.ImportPath)
		}
	}
	if checked < 100 {
		t.Errorf("only %d declarations were looked at", checked)
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// maxLines is how long a file of code may be before it is two.
const maxLines = 600

func TestHouse(t *testing.T) {
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s: a top-level folder that is none of %v", e.Name(), topLevel)
		}
	}
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"node_modules", "dist", "bin", ".git", "serin-data"}, d.Name()) {
				return filepath.SkipDir
			}
			if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, d.Name()) {
				t.Errorf("%s: a folder whose name says nothing", path)
			}
			return nil
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".ts" && ext != ".mjs" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(data, []byte("\n")); n > maxLines {
			t.Errorf("%s: %d lines; want at most %d", path, n, maxLines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOnlyCommandReadsItsSurroundings looks for the calls that read flags,
// environment and files.
func TestOnlyCommandReadsItsSurroundings(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if match(name, "cmd/...") || match(name, "internal/bench/...") {
			continue // the benchmarks are commands too
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "Args", "Exit"}, sel.Sel.Name) {
					t.Errorf("%s: os.%s: only cmd reads its surroundings", fset.Position(n.Pos()), sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// match reports whether a path is the pattern, or below it where the pattern
// ends in /... .
func match(path, pattern string) bool {
	base, below := strings.CutSuffix(pattern, "/...")
	return path == base || below && strings.HasPrefix(path, base+"/")
}

// markdown is the table as ARCHITECTURE.md quotes it.
func markdown() string {
	var b strings.Builder
	b.WriteString("| package | may import |\n| --- | --- |\n")
	for _, r := range table {
		var may []string
		for _, m := range r.may {
			may = append(may, "`"+m+"`")
		}
		what := strings.Join(may, ", ")
		if what == "" {
			what = "nothing of ours"
		}
		if r.standardOnly {
			what += "; the standard library only"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.of, what)
	}
	return b.String()
}
