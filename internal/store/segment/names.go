package segment

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"serin.dev/serin/internal/tenant"
)

const fileSuffix = ".parquet"

func fileName(from, to uint64) string { return fmt.Sprintf("%020d-%020d%s", from, to, fileSuffix) }

// parseName reads the positions of a segment from its file name.
func parseName(name string) (from, to uint64, ok bool) {
	a, b, _ := strings.Cut(strings.TrimSuffix(name, fileSuffix), "-")
	from, err1 := strconv.ParseUint(a, 10, 64)
	to, err2 := strconv.ParseUint(b, 10, 64)
	return from, to, err1 == nil && err2 == nil && from <= to && name == fileName(from, to)
}

// maxEscaped bounds the name of an app's directory; Linux allows 255 bytes, and
// the 128 bytes of an app become up to 384 when each is escaped.
const maxEscaped = 200

// escapeApp turns an app into the name of one directory. An app is a client's
// text: it must not be able to name a path outside its tenant. The forms cannot
// collide, since path escaping writes two hexadecimal digits after each '%'.
func escapeApp(app string) string {
	e := url.PathEscape(app)
	switch {
	case e == "":
		return "%"
	case len(e) > maxEscaped:
		sum := sha256.Sum256([]byte(app))
		return "%~" + hex.EncodeToString(sum[:])
	case e[0] == '.': // "." and "..", and nothing hidden
		return "%2E" + e[1:]
	}
	return e
}

// list returns the segments of an app without their rows and sizes, by
// position. Segments that overlap are an error: a beacon would count twice.
func (s *Store) list(id tenant.ID, app string) ([]Info, error) {
	if id.IsZero() {
		return nil, errors.New("no tenant")
	}
	found, err := list(filepath.Join(s.dir, id.String(), escapeApp(app)))
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(found); i++ {
		if found[i].From <= found[i-1].To {
			return nil, fmt.Errorf("%w: %s overlaps %s", ErrCorrupt, found[i].Path, found[i-1].Path)
		}
	}
	return found, nil
}

func list(appDir string) ([]Info, error) {
	entries, err := os.ReadDir(appDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var found []Info
	for _, e := range entries {
		path := filepath.Join(appDir, e.Name())
		if strings.HasSuffix(path, tempSuffix) {
			continue // a writer is at it
		}
		from, to, ok := parseName(e.Name())
		if !ok {
			return nil, fmt.Errorf("%w: %s is not the name of a segment", ErrCorrupt, path)
		}
		found = append(found, Info{Path: path, From: from, To: to})
	}
	slices.SortFunc(found, func(x, y Info) int { return cmp.Compare(x.From, y.From) })
	return found, nil
}

// Files returns the segments of a tenant and app by position. It reads and
// checks each footer, not the rows.
func (s *Store) Files(id tenant.ID, app string) ([]Info, error) {
	found, err := s.list(id, app)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	for i := range found {
		if err := measure(&found[i]); err != nil {
			return nil, fmt.Errorf("list segments: %s: %w", found[i].Path, err)
		}
	}
	return found, nil
}

// Tenants returns the tenants that have a segment, by name.
func (s *Store) Tenants() ([]tenant.ID, error) {
	var ids []tenant.ID
	err := s.walk(func(id tenant.ID, appDir string) error {
		found, err := list(appDir)
		if err == nil && len(found) > 0 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	return ids, nil
}

// Apps returns the apps of a tenant that have a segment, by name.
func (s *Store) Apps(id tenant.ID) ([]string, error) {
	var apps []string
	err := s.walk(func(of tenant.ID, appDir string) error {
		if of != id {
			return nil
		}
		found, err := list(appDir)
		if err != nil || len(found) == 0 {
			return err
		}
		// The directory may hold a digest instead of the name; the footer knows.
		h, err := readHeader(found[0].Path)
		if err != nil {
			return fmt.Errorf("%s: %w", found[0].Path, err)
		}
		apps = append(apps, h.app)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	slices.Sort(apps)
	return apps, nil
}

// Total returns the size of all segments of all tenants. It reads each footer.
func (s *Store) Total() (Total, error) {
	var t Total
	err := s.walk(func(_ tenant.ID, appDir string) error {
		found, err := list(appDir)
		if err != nil {
			return err
		}
		for _, i := range found {
			if err := measure(&i); err != nil {
				return fmt.Errorf("%s: %w", i.Path, err)
			}
			t.Segments++
			t.Rows += i.Rows
			t.Bytes += i.Bytes
		}
		return nil
	})
	if err != nil {
		return Total{}, fmt.Errorf("measure segments: %w", err)
	}
	return t, nil
}

// walk calls fn with the directory of each tenant and app, by name.
func (s *Store) walk(fn func(id tenant.ID, appDir string) error) error {
	tenants, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		// Files, and names that no tenant can have, are not ours to judge.
		if !t.IsDir() || strings.HasPrefix(t.Name(), "_") {
			continue
		}
		dir := filepath.Join(s.dir, t.Name())
		id, err := tenant.Stored(t.Name())
		if err != nil {
			return fmt.Errorf("%w: %s is not the directory of a tenant", ErrCorrupt, dir)
		}
		apps, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, a := range apps {
			if err := fn(id, filepath.Join(dir, a.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
