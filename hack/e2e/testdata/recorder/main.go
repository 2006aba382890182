// Command recorder is a delegate that writes what it reads into a file beside
// it, named after the verb.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	conf, err := io.ReadAll(os.Stdin)
	if err == nil {
		var self string
		if self, err = os.Executable(); err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(self), os.Getenv("CNI_COMMAND")), conf, 0o600)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv("CNI_COMMAND") == "ADD" {
		fmt.Println(`{"cniVersion":"1.0.0","ips":[{"address":"10.244.3.2/24"}]}`)
	}
}
