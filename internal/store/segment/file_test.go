package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "on", "demand")
	if _, err := ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an absent file gave %v", err)
	}
	for _, want := range []string{"one", "another"} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(path); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestLedgers(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][3]string{{"b", "x", "1"}, {"a", "y.1", "2"}, {"a", "x", "3"}, {"a", "x", "4"}} {
		if err := s.PutLedger(p[0], p[1], []byte(p[2])); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := r.Ledgers(func(tenant, rollout string, data []byte) error {
		got = append(got, tenant+"/"+rollout+"="+string(data))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "[a/x=4 a/y.1=2 b/x=1]"; want != fmt.Sprint(got) {
		t.Errorf("got %v, want %v", got, want)
	}
	if ts, err := r.Tenants(); err != nil || len(ts) != 0 {
		t.Errorf("the ledgers are taken for a tenant: %v, %v", ts, err)
	}
}

func TestReadOnlyChangesNothing(t *testing.T) {
	dir := t.TempDir()
	temp := filepath.Join(dir, "t", "a", "half"+tempSuffix)
	if err := WriteFile(temp, nil); err != nil {
		t.Fatal(err)
	}
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp); err != nil {
		t.Errorf("another process's file is gone: %v", err)
	}
	if _, err := s.Write(t.Context(), 1, 1, nil, nil); !errors.Is(err, errReadOnly) {
		t.Errorf("Write gave %v", err)
	}
	if _, err := s.DeleteAfter(0); !errors.Is(err, errReadOnly) {
		t.Errorf("DeleteAfter gave %v", err)
	}
	if err := s.PutLedger("t", "r", nil); !errors.Is(err, errReadOnly) {
		t.Errorf("PutLedger gave %v", err)
	}
	if _, err := OpenReadOnly(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent folder gave %v", err)
	}
}
