package segment

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces a file atomically and durably: after it returns, the new
// bytes survive a loss of power, and before it does, the old ones do.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "*"+tempSuffix)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncEntries(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadFile reads a file that [WriteFile] wrote. An absent one is
// [io/fs.ErrNotExist].
func ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// ledgerDir holds the ledgers beside the tenants' folders, as
// _rollouts/TENANT/ROLLOUT.json; no tenant's name begins with an underscore.
const ledgerDir = "_rollouts"

// PutLedger keeps the record of one rollout, as JSON, beside the segments, so
// that a copy of the directory is all that a backtest needs. Both names become
// parts of a path, so they must be checked ones: a tenant's, and a rollout id,
// which holds no separator and does not begin with a dot.
func (s *Store) PutLedger(tenant, rollout string, data []byte) error {
	if s.readOnly {
		return errReadOnly
	}
	path := filepath.Join(s.dir, ledgerDir, tenant, rollout+".json")
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	return WriteFile(path, data)
}

// Ledgers calls fn with each rollout's record, by tenant and rollout.
func (s *Store) Ledgers(fn func(tenant, rollout string, data []byte) error) error {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(s.dir), ledgerDir, "*", "*.json"))
	if err != nil {
		return fmt.Errorf("list ledgers: %w", err)
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		rollout := strings.TrimSuffix(filepath.Base(p), ".json")
		if err := fn(filepath.Base(filepath.Dir(p)), rollout, data); err != nil {
			return err
		}
	}
	return nil
}
