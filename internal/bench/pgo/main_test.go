package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func texts(t *testing.T, file string) (all []string) {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	profile, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for len(profile) > 0 {
		num, typ, n := protowire.ConsumeTag(profile)
		size := protowire.ConsumeFieldValue(num, typ, profile[n:])
		if n < 0 || size < 0 {
			t.Fatal("no profile")
		}
		if num == stringTable {
			text, _ := protowire.ConsumeBytes(profile[n:])
			all = append(all, string(text))
		}
		profile = profile[n+size:]
	}
	return all
}

// TestPaths takes the profile of a heap, which names this binary and its sources, and
// wants all its texts but for their folders.
func TestPaths(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := pprof.Lookup("allocs").WriteTo(f, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := convert(from, to); err != nil {
		t.Fatal(err)
	}
	before, after := texts(t, from), texts(t, to)
	cut := 0
	for i, text := range before {
		want := text
		if filepath.IsAbs(text) {
			want = filepath.Base(text)
			cut++
		}
		if after[i] != want {
			t.Fatalf("%q became %q", text, after[i])
		}
	}
	if cut == 0 || len(after) != len(before) {
		t.Errorf("%d paths cut, %d texts of %d", cut, len(after), len(before))
	}
}

// TestKept holds the profile that the repository keeps to the same.
func TestKept(t *testing.T) {
	for _, text := range texts(t, "../../../cmd/serin/default.pgo") {
		if filepath.IsAbs(text) {
			t.Errorf("the profile holds the path %s: want one that make profile wrote", text)
		}
	}
}
