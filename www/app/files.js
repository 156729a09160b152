// @ts-check
/** Files in and out: drops, folders, what the site itself serves, downloads. Nothing here reads a file's content. */

/** A model folder has a dozen files; a home folder dropped by mistake has a million. */
const MOST_FILES = 500;

/** The files of the built-in model, in the folder `starter` beside the page. */
export const STARTER = ['config.json', 'model.safetensors', 'tokenizer.json'];

/** @typedef {{ name: string, files: File[], kind?: 'starter' | 'hub' }} Folder kind: one that the page can open again by itself */

/**
 * The files of a drop. A folder gives the files directly in it, and its name.
 * @param {DataTransfer} transfer @returns {Promise<Folder>}
 */
export async function fromDrop(transfer) {
  // Entries have to be taken before the first await: the list is emptied after the event.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  const loose = [...transfer.files];
  const folder = entries.find((entry) => entry?.isDirectory);
  if (!folder) return { name: '', files: loose };
  const files = await filesOf(/** @type {FileSystemDirectoryEntry} */ (folder));
  return { name: folder.name, files };
}

/** @param {FileSystemDirectoryEntry} directory @returns {Promise<File[]>} */
async function filesOf(directory) {
  const reader = directory.createReader();
  /** @type {File[]} */
  const files = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length || files.length > MOST_FILES) return files;
    for (const entry of some) {
      if (!entry.isFile) continue;
      files.push(await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject)));
    }
  }
}

/**
 * The files of a folder dialog: only those directly in the folder, without its subfolders.
 * @param {FileList | File[]} list @returns {Folder}
 */
export function fromDialog(list) {
  const files = [...list].filter((file) => file.webkitRelativePath.split('/').length <= 2).slice(0, MOST_FILES);
  const name = list[0]?.webkitRelativePath.split('/')[0] ?? '';
  return { name, files };
}

/** An adapter handed over as if it were a model. @param {File[]} files */
export function isAdapter(files) {
  const names = files.map(({ name }) => name.toLowerCase());
  return (names.length === 1 && names[0].endsWith('.zip')) || (names.some((name) => name.startsWith('adapter_')) && !names.includes('model.safetensors'));
}

/**
 * Files that the site serves beside the page.
 * @param {string[]} paths @returns {Promise<File[]>}
 */
export async function fromSite(paths) {
  return Promise.all(
    paths.map(async (path) => {
      const response = await fetch(path);
      if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
      const blob = await response.blob();
      return new File([blob], path.split('/').at(-1) ?? path);
    }),
  );
}

/** @param {string} name @param {BlobPart} content a file is copied by the browser, not through memory @param {string} [type] */
export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the blob by then; at once would be too early for some.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
