// Package segment keeps events for good: immutable Parquet files, one for each
// tenant, app and range of journal positions (docs/formats/segment.md). A file
// is complete before it gets its name, and it carries checksums over all of its
// bytes, so a file is either read as it was written or refused.
//
// Parquet and not Arrow IPC, because any other tool can read it and because it
// is half the size. One row group per batch, because a dictionary that changes
// within a row group makes Arrow v17 write 60 times slower.
package segment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// ErrCorrupt says that a segment is not as it was written. The error names the
// file.
var ErrCorrupt = errors.New("corrupt segment")

var errReadOnly = errors.New("segments are open for reading only")

// tempSuffix ends the name of a file that is not complete.
const tempSuffix = ".tmp"

// Store is a directory of segments. It is safe for concurrent use by one
// process; two processes must not write to one directory.
type Store struct {
	dir      string
	readOnly bool
	// write keeps writers and DeleteAfter apart. Readers need no lock: a file
	// never changes under its name, it is only replaced or removed.
	write   sync.Mutex
	scratch scratch // guarded by write
}

// Info describes one segment.
type Info struct {
	Path  string
	From  uint64 // first journal position that the segment stands for
	To    uint64 // last one
	Rows  int64
	Bytes int64
}

// Total is the size of a set of segments.
type Total struct {
	Segments int
	Rows     int64
	Bytes    int64
}

// Open opens the store in a directory, which it makes if need be, and removes
// the incomplete files that a crash left there.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*", "*", "*"+tempSuffix))
	if err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open segments: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// OpenReadOnly opens a store that exists, and changes nothing in it: it may be
// one that another process writes to.
func OpenReadOnly(dir string) (*Store, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, fmt.Errorf("open segments %s: %w", dir, err)
	}
	return &Store{dir: dir, readOnly: true}, nil
}

// escapeGlob quotes what Glob would read as a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Write stores batches as one segment for each tenant and app, and returns
// their paths in order. [from, to] are the journal positions that the batches
// stand for: all their rows lie within it, and no other call may cover any of
// them, except a repetition with the same range, which replaces the files.
// Rows ascend by (position, ordinal) in each batch, and no beacon is in two of
// them, as [batch.Batch.Append] makes them. When Write returns without an
// error, the files outlive a crash of the machine; after an error some of them
// may exist, and a repetition makes them whole. What takes the processor it has done by
// do, which may be nil, a column at a time, one after the other: do may take its time.
func (s *Store) Write(ctx context.Context, from, to uint64, batches []*batch.Batch, do func(work func())) ([]string, error) {
	if s.readOnly {
		return nil, errReadOnly
	}
	if from > to {
		return nil, fmt.Errorf("write segments: positions %d to %d", from, to)
	}
	if do == nil {
		do = func(work func()) { work() }
	}
	type owner struct{ tenant, app string }
	groups := map[owner][]*batch.Batch{}
	for _, b := range batches {
		if b.Len() == 0 {
			continue
		}
		if b.Tenant.IsZero() {
			return nil, errors.New("write segments: a batch of no tenant")
		}
		o := owner{b.Tenant.String(), b.App}
		groups[o] = append(groups[o], b)
	}
	s.write.Lock()
	defer s.write.Unlock()
	var paths []string
	for o, bs := range groups {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("write segments: %w", err)
		}
		path := filepath.Join(s.dir, o.tenant, escapeApp(o.app), fileName(from, to))
		if err := s.writeFile(path, header{o.tenant, o.app, from, to}, bs, do); err != nil {
			return nil, fmt.Errorf("write segment %s: %w", path, err)
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, nil
}

// writeFile makes one segment durable under its name.
func (s *Store) writeFile(path string, h header, bs []*batch.Batch, do func(work func())) (err error) {
	var order []run
	do(func() {
		order, err = beacons(s.scratch.order[:0], bs)
		s.scratch.order = order
	})
	defer s.scratch.keep()
	if err != nil {
		return err
	}
	if lo, hi := order[0].position, order[len(order)-1].position; lo < h.from || hi > h.to {
		return fmt.Errorf("rows of positions %d to %d are outside", lo, hi)
	}
	dir := filepath.Dir(path)
	if err := s.makeDirs(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "*"+tempSuffix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // already closed if it was the rename that failed
			_ = os.Remove(f.Name())
		}
	}()
	if err := s.scratch.encode(f, h, bs, do); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncEntries(dir)
}

// makeDirs makes the directories of a tenant and an app, and makes their
// entries durable: a synced file in a directory that a crash forgets is lost.
func (s *Store) makeDirs(dir string) error {
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := syncEntries(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// syncEntries makes the names in a directory outlive a crash of the machine.
func syncEntries(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// DeleteAfter removes the segments that stand for journal positions above one:
// what a crash left that the checkpoint at this position does not know of. A
// segment that straddles the position cannot come from a crash; it is an error
// that names it, and then nothing is removed.
func (s *Store) DeleteAfter(position uint64) (removed int, err error) {
	if s.readOnly {
		return 0, errReadOnly
	}
	s.write.Lock()
	defer s.write.Unlock()
	var doomed []string
	err = s.walk(func(_ tenant.ID, appDir string) error {
		found, err := list(appDir)
		if err != nil {
			return err
		}
		for _, i := range found {
			switch {
			case i.To <= position:
			case i.From <= position:
				return fmt.Errorf("segment %s straddles position %d", i.Path, position)
			default:
				doomed = append(doomed, i.Path)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("delete after %d: %w", position, err)
	}
	dirs := map[string]bool{}
	for _, path := range doomed {
		if err := os.Remove(path); err != nil {
			return removed, fmt.Errorf("delete after %d: %w", position, err)
		}
		removed++
		dirs[filepath.Dir(path)] = true
	}
	for d := range dirs {
		if err := syncEntries(d); err != nil {
			return removed, fmt.Errorf("delete after %d: %w", position, err)
		}
	}
	return removed, nil
}

// Replay calls fn once for each beacon of a tenant and app, with its rows
// [lo, hi) of b, in the order of (position, ordinal) over all releases and
// segments. b may be kept but not changed. Each segment is checked as a whole
// before any of its rows reaches fn; one that fails is [ErrCorrupt]. An error of fn
// ends the replay and is returned as it is. Memory holds one segment at a time.
func (s *Store) Replay(ctx context.Context, id tenant.ID, app string, fn func(b *batch.Batch, lo, hi int) error) error {
	found, err := s.list(id, app)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	for _, i := range found {
		bs, err := decode(ctx, i.Path, header{id.String(), app, i.From, i.To})
		if err != nil {
			return fmt.Errorf("replay %s: %w", i.Path, err)
		}
		order, err := beacons(nil, bs)
		if err != nil {
			return fmt.Errorf("replay %s: %w: %w", i.Path, ErrCorrupt, err)
		}
		for _, r := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(r.b, r.lo, r.hi); err != nil {
				return err
			}
		}
	}
	return nil
}

// run is the rows [lo, hi) of one beacon.
type run struct {
	position uint64
	ordinal  int
	b        *batch.Batch
	lo, hi   int
}

// beacons appends the beacons of batches in the order of (position, ordinal).
func beacons(all []run, bs []*batch.Batch) ([]run, error) {
	for _, b := range bs {
		for lo := 0; lo < b.Len(); {
			r := run{position: b.Position(lo), ordinal: b.Ordinal(lo), b: b, lo: lo}
			for r.hi = lo + 1; r.hi < b.Len() && b.Position(r.hi) == r.position && b.Ordinal(r.hi) == r.ordinal; r.hi++ {
			}
			all = append(all, r)
			lo = r.hi
		}
	}
	slices.SortStableFunc(all, func(x, y run) int {
		return cmp.Or(cmp.Compare(x.position, y.position), cmp.Compare(x.ordinal, y.ordinal))
	})
	for i := 1; i < len(all); i++ {
		if x, y := all[i-1], all[i]; x.position == y.position && x.ordinal == y.ordinal {
			return nil, fmt.Errorf("beacon %d of position %d is there twice", y.ordinal, y.position)
		}
	}
	return all, nil
}
