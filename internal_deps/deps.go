// Temporary: keeps go.mod whole until the packages that need these exist.
package deps
