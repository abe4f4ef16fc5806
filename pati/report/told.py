"""What the library says in English, for Turkish reports and the page: its mistakes, what to do about them, its notes.

A key is a sentence of the library with `{}` for what is filled in; the value has `{0}`, `{1}` … for the same, in the
order of the key. A sentence that is not here is shown as it is.
"""

from __future__ import annotations

import functools
import re

TURKISH = {
    # Processes
    "{} is being worked on": "{0} üzerinde çalışılıyor",
    "wait for it, or stop it": "bitmesini bekleyin ya da durdurun",
    "the process did not begin": "işlem başlamadı",
    "what it said stands in {}": "söyledikleri {0} dosyasında",
    "the whole story stands in {}": "ayrıntılar {0} dosyasında",
    "another process is working on {}": "{0} üzerinde başka bir işlem çalışıyor",
    "another training is being started": "başka bir eğitim başlatılıyor",
    "no room left on the disk: {}": "diskte yer kalmadı: {0}",
    "{} can't be locked ({}): another process could work on it at the same time unseen": "{0} kilitlenemiyor ({1}): "
    "aynı anda başka bir süreç de fark edilmeden üzerinde çalışabilir",
    "use a folder on a local disk": "yerel bir diskte bir klasör kullanın",
    "the recipe lacks {}": "tarifte eksik: {0}",
    "the run is of an older pati: train it again": "koşu daha eski bir pati sürümünden: yeniden eğitin",
    "mend that; what is done so far is kept. Then {}": "bunu giderin; şimdiye kadar yapılanlar saklandı. Sonra: {0}",
    "go on with: {}": "şununla sürdürün: {0}",
    "go on with it: {}": "şununla sürdürün: {0}",
    "the {}'s memory is too small for this net and these photos, {} in one step": "bellek bu ağ ve bu fotoğraflar için "
    "yetmiyor (bir adımda {1} fotoğraf)",
    "smaller photos (--size), a smaller net, or fewer in one step (--set batch={})": "daha küçük fotoğraflar (--size), "
    "daha küçük bir ağ ya da adım başına daha az fotoğraf (--set batch={0})",
    # Photos
    "there is no file, folder or known set {}": "{0} adında bir dosya, klasör ya da bilinen küme yok",
    "known sets: {}": "bilinen kümeler: {0}",
    "{} is neither a folder, an archive nor a CSV file": "{0} ne bir klasör, ne bir arşiv, ne de bir CSV dosyası",
    "give a folder with one folder a class, a .zip or .tar.* of it, or a CSV with path and label": "her sınıf için bir "
    "klasör içeren bir klasör, onun .zip ya da .tar.* arşivini ya da path ve label sütunlu bir CSV verin",
    "{} has {} and also {}: are these splits or classes?": "{0} içinde {1} ve ayrıca {2} var: bunlar bölüm mü, sınıf "
    "mı?",
    "take the other folders away, or put the class folders alone into one folder": "öteki klasörleri kaldırın ya da "
    "yalnızca sınıf klasörlerini tek bir klasöre koyun",
    "can't read {}: {}": "{0} okunamıyor: {1}",
    "can't read the folder {}: {}": "{0} klasörü okunamıyor: {1}",
    "look at its permissions": "izinlerine bakın",
    "it should be a UTF-8 CSV with a header line": "başlık satırı olan, UTF-8 kodlu bir CSV olmalı",
    "{} has no column {}": "{0} dosyasında {1} sütunu yok",
    "{} has no {} column; its columns: {}": "{0} dosyasında {1} sütunu yok; sütunları: {2}",
    "its columns: {}": "sütunları: {0}",
    "name it {}, or say which it is with --{}-column": "adını {0} yapın ya da hangisi olduğunu --{1}-column ile "
    "söyleyin",
    "{} has two different rows for {}": "{0} dosyasında {1} için iki ayrı satır var",
    "leave one of them": "birini bırakın",
    "{}: split {} of {} is unknown": "{0}: {2} için yazılan {1} bölümü bilinmiyor",
    "known: {}": "bilinenler: {0}",
    "no CSV with a column {} lies in or beside {}": "{1} içinde ya da yanında {0} sütunu olan bir CSV yok",
    "grouping needs a CSV with one row a photo: its path and that column": "gruplamak için her fotoğrafa bir satır "
    "ayıran bir CSV gerekir: yolu ve o sütun",
    "{} photos have no row in {}, for example {}, so they can't be grouped by {}": "{0} fotoğrafın {1} içinde satırı "
    "yok, örneğin {2}; bu yüzden {3} sütununa göre gruplanamazlar",
    "every photo needs its group, or photos of one could land on both sides of the split": "her fotoğrafın grubu "
    "bilinmeli, yoksa bir grubun fotoğrafları bölmenin iki yanına düşebilir",
    "the known set {} has no CSV, so there are no columns to choose or group by": "bilinen {0} kümesinin CSV dosyası "
    "yok; bu yüzden seçilecek ya da gruplanacak sütun da yok",
    "cats-vs-dogs is not on this machine": "cats-vs-dogs bu bilgisayarda yok",
    "run `pati fetch cats-vs-dogs`, or set PATI_MIRROR to a folder with cats-vs-dogs.zip": "`pati fetch cats-vs-dogs` "
    "komutunu çalıştırın ya da PATI_MIRROR değişkenine cats-vs-dogs.zip dosyasının klasörünü yazın",
    "{} holds more than {} files": "{0} içinde {1} dosyadan fazlası var",
    "{} unpacks to over {} times its size or {} bytes": "{0} açılınca boyunun {1} katını ya da {2} baytı aşıyor",
    "if you trust it, unpack it yourself and give the folder": "güveniyorsanız kendiniz açın ve klasörünü verin",
    "can't unpack {}: {}": "{0} açılamıyor: {1}",
    "{} is a broken archive: {}": "{0} bozuk bir arşiv: {1}",
    "download or copy it again": "yeniden indirin ya da kopyalayın",
    "{} is packed in a way that is not supported": "{0} desteklenmeyen bir yolla sıkıştırılmış",
    "{} is packed in a way that is not supported: {}": "{0} desteklenmeyen bir yolla sıkıştırılmış: {1}",
    "{} is encrypted": "{0} şifreli",
    "unpack it yourself": "kendiniz açın",
    "unpack it yourself and give the folder": "kendiniz açın ve klasörünü verin",
    "the process that decodes photos could not be started; its own message stands above": "fotoğrafları çözen işlem "
    "başlatılamadı",
    "is there enough memory and disk? `python -m pati.data.audit.worker` shows the cause": "bellek ve disk yeterli mi? "
    "Nedenini `python -m pati.data.audit.worker` gösterir",
    "can't write the pack below {}: {}": "{0} altına paket yazılamıyor: {1}",
    "make room, or set PATI_CACHE to a folder on a larger disk": "yer açın ya da PATI_CACHE değişkenine daha büyük bir "
    "diskteki bir klasörü yazın",
    "the pack does not hold these photos": "pakette bu fotoğraflar yok",
    "the data changed: run the command again": "veriler değişmiş: yeniden başlatın",
    "no photo found in {}": "{0} içinde fotoğraf bulunamadı",
    "expected one folder a class with photos in it, or a CSV": "her sınıf için içinde fotoğraf olan bir klasör ya da "
    "bir CSV beklenir",
    "none of the {} files in {} is a usable photo ({})": "{1} içindeki {0} dosyadan hiçbiri kullanılabilir bir "
    "fotoğraf değil ({2})",
    "two classes differ only in case: {} and {}": "iki sınıfın adı yalnızca büyük-küçük harfte ayrılıyor: {0} ve {1}",
    "on many systems they are one folder: merge them, or rename one": "birçok sistemde bunlar tek klasördür: "
    "birleştirin ya da birinin adını değiştirin",
    "the name of a class is not valid text: {}": "bir sınıfın adı geçerli bir metin değil: {0}",
    "rename the folder; archives made on other systems often carry names in another encoding": "klasörün adını "
    "değiştirin; başka sistemlerde yapılan arşivlerde adlar çoğu kez başka bir kodlamadadır",
    "only one class, {}, in {}: there is nothing to tell apart": "{1} içinde tek sınıf var, {0}: ayırt edilecek bir "
    "şey yok",
    "expected at least two folders, one a class": "her sınıf için bir tane olmak üzere en az iki klasör beklenir",
    "every class needs at least 3 usable photos; these have fewer: {}": "her sınıfta en az 3 kullanılabilir fotoğraf "
    "olmalı; daha azı olanlar: {0}",
    "add photos, or take the class out": "fotoğraf ekleyin ya da sınıfı çıkarın",
    "no photo fell into {}: too few units (duplicates and groups stay together)": "{0} bölümüne fotoğraf düşmedi: "
    "birim çok az (kopyalar ve gruplar bir arada kalır)",
    "add photos, or group by something finer": "fotoğraf ekleyin ya da daha ince gruplayın",
    "no training photo of {}": "eğitim bölümünde {0} fotoğrafı yok",
    "every class must appear in train": "her sınıf eğitim bölümünde bulunmalı",
    # Why a file is quarantined
    "the file has no bytes; copy it again from where it came": "dosya boş; geldiği yerden yeniden kopyalayın",
    "written by an operating system (Thumbs.db, .DS_Store, ._name), not a photo": "işletim sisteminin yazdığı bir "
    "dosya (Thumbs.db, .DS_Store, ._ad), fotoğraf değil",
    "a folder, link, pipe or device where a photo was expected": "fotoğraf beklenen yerde bir klasör, bağlantı, boru "
    "ya da aygıt",
    "the file could not be read: it is gone, or its permissions forbid it": "dosya okunamadı: artık yok ya da izinleri "
    "buna engel",
    "over a limit on bytes, pixels or work; if you trust it, raise the limit (docs/robustness.md)": "bayt, piksel ya "
    "da iş sınırını aşıyor; güveniyorsanız sınırı yükseltin (docs/robustness.md)",
    "not one of the formats {}; convert it": "şu biçimlerden biri değil: {0}; dönüştürün",
    "the file ends too early; copy it again from where it came": "dosya yarıda bitiyor; geldiği yerden yeniden "
    "kopyalayın",
    "the file can't be decoded; copy it again from where it came": "dosya çözülemiyor; geldiği yerden yeniden "
    "kopyalayın",
    "left out by a decision of yours (--decisions)": "sizin kararınızla dışarıda bırakıldı (--decisions)",
    # What is odd about a photo
    "decodes, but the decoder met corrupt data": "çözülüyor, ama içinde bozuk veri var",
    "bytes after the photo's end": "fotoğrafın bittiği yerden sonra fazladan baytlar var",
    "the photo is whole, but the file lacks its end mark": "fotoğraf eksiksiz, ama dosyanın bitiş işareti yok",
    "ends in zeros: an unfinished copy, part of the photo is grey": "sıfırlarla bitiyor: yarım kalmış bir kopya, "
    "fotoğrafın bir bölümü gri",
    "several pictures in one file; the first is used": "tek dosyada birden çok resim; ilki kullanılır",
    "a side under 16 px": "bir kenarı 16 pikselden kısa",
    "one side over 8 times the other": "bir kenarı ötekinin 8 katından uzun",
    "one colour all over": "baştan başa tek renk",
    "the same picture as another file, or nearly": "başka bir dosyayla birebir ya da neredeyse aynı resim",
    "its copies are in more than one class": "kopyaları birden çok sınıfta",
    "has the class of a decision of yours (--decisions), not its folder's": "klasörünün değil, sizin kararınızın "
    "sınıfında (--decisions)",
    "you decided to keep it as it is (--decisions)": "olduğu gibi kalmasına siz karar verdiniz (--decisions)",
    # Notes of the audit
    "{} members of the archive are left out: {}": "arşivin {0} üyesi dışarıda bırakıldı: {1}",
    "links, devices and other members that are no files": "bağlantılar, aygıtlar ve dosya olmayan öteki üyeler",
    "names that lead out of the folder or are too long": "klasörün dışına çıkan ya da çok uzun adlar",
    "names that came twice, perhaps in another case": "iki kez gelen adlar, belki büyük-küçük harf farkıyla",
    "{} files beside the class folders have no class and are left out": "sınıf klasörlerinin yanındaki {0} dosyanın "
    "sınıfı yok; dışarıda bırakıldılar",
    "folder {} is hidden and is left out": "{0} klasörü gizli; dışarıda bırakıldı",
    "labels come from the column {} of {}": "etiketler {1} dosyasının {0} sütunundan",
    "splits come from the column {} of {}": "bölümler {1} dosyasının {0} sütunundan",
    "photos are grouped by the column {} of {}": "fotoğraflar {1} dosyasının {0} sütununa göre gruplandı",
    "{} rows of {} have no label and are left out": "{1} dosyasının {0} satırında etiket yok; dışarıda bırakıldılar",
    "{} photos have no row in {}; they keep their folder's class": "{0} fotoğrafın {1} içinde satırı yok; "
    "klasörlerinin sınıfında kaldılar",
    "many photos look alike: {} pairs were not compared closely for near-duplicates": "birçok fotoğraf birbirine "
    "benziyor: {0} çift, yakın kopya mı diye ayrıntılı karşılaştırılmadı",
    "test photos relabelled by decisions: {}; a score on them is not blind": "kararlarla yeniden etiketlenen test "
    "fotoğrafları: {0}; onlardaki puan kör değildir",
    "photos left out by decisions: {}; where a model's mistakes chose them, no score is blind": "kararlarla dışarıda "
    "bırakılan fotoğraflar: {0}; onları bir modelin yanlışları seçtiyse hiçbir puan kör değildir",
    "decisions that are not followed, for photos that {}: {}": "{0} fotoğraflar için verilmiş, uyulmayan kararlar: {1}",
    "are not there": "yerinde olmayan",
    "have changed since": "o zamandan beri değişmiş",
    # Decisions
    "expected path and sha256 as in the manifest, decision, and new_label to relabel": "manifestteki gibi path ve "
    "sha256, ayrıca decision ve yeniden etiketlemek için new_label beklenir",
    "{}, line {}: decision {}": "{0}, {1}. satır: karar {2}",
    "expected {} or nothing": "{0} ya da hiçbir şey beklenir",
    "{}, line {}: new_label {} is no class": "{0}, {1}. satır: {2} diye bir sınıf yok",
    "expected one of {}": "şunlardan biri beklenir: {0}",
    "{}, line {}: another decision for {} stands above": "{0}, {1}. satır: {2} için yukarıda başka bir karar var",
    "leave one": "birini bırakın",
    # The manifest
    "{} is not a manifest of format {}": "{0}, {1} biçiminde bir manifest değil",
    "can't read the manifest {}: {}": "{0} manifesti okunamıyor: {1}",
    "the manifest {} is broken: {}": "{0} manifesti bozuk: {1}",
    "make it anew with `pati check`": "`pati check` ile yeniden yapın",
    "the manifest {} was changed by hand: its hash does not fit": "{0} manifesti elle değiştirilmiş: özeti tutmuyor",
    "make it anew": "yeniden yapın",
    # Runs
    "can't make {}: {}": "{0} oluşturulamıyor: {1}",
    "can't write to {}": "{0} içine yazılamıyor",
    "name another folder with --out": "--out ile başka bir klasör verin",
    "name a folder that is new or empty": "yeni ya da boş bir klasör verin",
    "{} holds a run already": "{0} içinde zaten bir eğitim var",
    "go on with it: {}; or name another folder with --out": "şununla sürdürün: {0}; ya da --out ile başka bir klasör "
    "verin",
    "{} is not a run's folder": "{0} bir eğitim klasörü değil",
    "expected one that `pati train` made": "`pati train` komutunun yaptığı bir klasör beklenir",
    "{} has format {}, this pati reads {}": "{0} dosyasının biçimi {1}, bu pati {2} okuyor",
    "update pati": "pati'yi güncelleyin",
    "train it again": "yeniden eğitin",
    "go on with the pati that began it, or train it again": "onu başlatan pati ile sürdürün ya da yeniden eğitin",
    "{} can't be read: {}": "{0} okunamıyor: {1}",
    "a recipe is a JSON object, not a {}": "tarif bir JSON nesnesidir, {0} değil",
    "can't read the recipe {}: {}": "{0} tarifi okunamıyor: {1}",
    "{} is not JSON: {}": "{0} JSON değil: {1}",
    "a recipe is what a run's recipe.json holds": "tarif, bir eğitimin recipe.json dosyasındakidir",
    "this recipe has format {}, this pati reads {}": "bu tarifin biçimi {0}, bu pati {1} okuyor",
    "update pati, or write the recipe anew": "pati'yi güncelleyin ya da tarifi yeniden yazın",
    "the data changed since this run began, for example {}": "eğitim başladığından beri veriler değişti, örneğin {0}",
    "put the photos back as they were, or start a new run": "fotoğrafları eski durumuna getirin ya da yeni bir eğitim "
    "başlatın",
    "a budget of {} s leaves {} s for training: reading and scoring take the rest": "{0} saniyelik sürede eğitime {1} "
    "saniye kalıyor: gerisi okumaya ve puanlamaya gidiyor",
    "give it --budget {}m or more; the photos are decoded now, so try again at once": "{0} dakika ya da daha fazla "
    "verin; fotoğraflar artık çözülmüş durumda, hemen yeniden deneyin",
    "the run {} is not finished": "{0} eğitimi bitmemiş",
    "this run is of an older pati, which kept less": "bu eğitim, daha az şey saklayan eski bir pati'den",
    "train it again with this version": "bu sürümle yeniden eğitin",
    "scored on {} of {} validation photos, as there was no time for more; the test photos were all scored": "daha "
    "fazlasına süre kalmadığı için {1} doğrulama fotoğrafından {0} tanesi, test fotoğraflarınınsa hepsi puanlandı",
    "the machine or this process was suspended for {} s; that time does not count": "makine ya da bu süreç {0} saniye "
    "askıda kaldı; bu süre sayılmaz",
    "ended early: no {} in the last {} epochs than {} after epoch {}": "erken bitti: son {1} dönemde, {3}. dönemden "
    "sonraki {2} değerinden iyisi gelmedi",
    "other versions than at the start, so not the same bits: {}": "baştakinden başka sürümler, bu yüzden bit bit aynı "
    "değil: {0}",
    # Models
    "can't read the model {}: {}": "{0} modeli okunamıyor: {1}",
    "{} is not a pati model": "{0} bir pati modeli değil",
    "expected a model.safetensors made by `pati train`": "`pati train` komutunun yaptığı bir model.safetensors "
    "beklenir",
    "{} is damaged: its checksum does not fit": "{0} bozuk: sağlama toplamı tutmuyor",
    "{} is damaged: {}": "{0} bozuk: {1}",
    "copy it again from where it came": "geldiği yerden yeniden kopyalayın",
    "{} has {} bytes, expected {}": "{0} dosyası {1} bayt, {2} bekleniyordu",
    "it is not whole: copy it again": "eksik: yeniden kopyalayın",
    "it was made by another version, or is not whole": "başka bir sürümle yapılmış ya da eksik",
    "it is not a whole pati model": "eksiksiz bir pati modeli değil",
    "{} holds no model": "{0} içinde model yok",
    "the run is not finished: {}": "eğitim bitmemiş: {0}",
    "expected a model file or a run's folder": "bir model dosyası ya da bir eğitim klasörü beklenir",
    "{} names no classes": "{0} sınıf adı içermiyor",
    "{} lacks {}": "{0} dosyasında {1} yok",
    "{} has an unknown tensor {}": "{0} dosyasında bilinmeyen bir tensör var: {1}",
    "{} lacks {} in its header": "{0} dosyasının başlığında {1} yok",
    "the header of {} can't be read: {}": "{0} dosyasının başlığı okunamıyor: {1}",
    "{}: {} is {} {}, expected {} {}": "{0}: {1} {2} {3}, beklenen {4} {5}",
    "the model knows no class {}": "modelin bildiği sınıflar arasında {0} yok",
    "its classes: {}": "sınıfları: {0}",
    "the net has no stage {}": "ağın {0} numaralı aşaması yok",
    "expected a number from 1 to {}": "1 ile {0} arasında bir sayı beklenir",
    "the explainer {} gives {}": "{0} açıklama yöntemi {1} veriyor",
    "expected maps (N, H, W), here of {} photos": "(N, H, W) haritaları beklenir, burada {0} fotoğraf için",
    "the maps of the explainer {} are not finite, or below 0": "{0} açıklama yönteminin haritaları sonlu değil ya da "
    "0'dan küçük",
    "expected 0 or more": "0 ya da daha büyük beklenir",
    # Plugins
    "{} comes from the plugin {}": "{0}, {1} eklentisinden geliyor",
    "{} comes from a plugin": "{0} bir eklentiden geliyor",
    "name its file with --plugin (only if you trust it: it is code)": "dosyasını --plugin ile verin (yalnızca "
    "güveniyorsanız: eklenti koddur)",
    "this run began without the plugin {}": "bu eğitim {0} eklentisi olmadan başladı",
    "leave it out": "vermeyin",
    "the plugin {} changed since this run began": "eğitim başladığından beri {0} eklentisi değişti",
    "put it back as it was, or start a new run": "eski durumuna getirin ya da yeni bir eğitim başlatın",
    # Comparisons
    "a comparison wants at least two runs, got {}": "karşılaştırma için en az iki eğitim gerekir, verilen: {0}",
    "{} is named twice": "{0} iki kez verildi",
    "name each run once": "her eğitimi bir kez verin",
    "{} have different classes: {}; {}": "{0} eğitimlerinin sınıfları ayrı: {1}; {2}",
    "compare runs that answer the same question": "aynı soruyu yanıtlayan eğitimleri karşılaştırın",
    "{} were made from different data or splits": "{0} ayrı verilerle ya da ayrı bölmelerle eğitilmiş",
    "train both on the same data with the same split_seed, or compare with --unpaired, which is less sure": "ikisini "
    "de aynı veriyle ve aynı split_seed ile eğitin ya da daha az kesin olan --unpaired ile karşılaştırın",
    "{} were not tested on the same photos": "{0} aynı fotoğraflarla sınanmamış",
    "compare with --unpaired": "--unpaired ile karşılaştırın",
    "the scores of {} can't be read: {}": "{0} eğitiminin puanları okunamıyor: {1}",
    "metrics.json or predictions.npz is damaged": "metrics.json ya da predictions.npz bozuk",
    # Cleaning
    "{} has the classes {}": "{0} verilerinin sınıfları: {1}",
    "expected those of the run: {}": "eğitimin sınıfları beklenir: {0}",
    "{} lies among the photos of {}": "{0}, {1} fotoğraflarının arasında",
    "name a folder elsewhere with --out": "--out ile başka yerde bir klasör verin",
    "leave it out, and it is {}": "vermezseniz {0} olur",
    "a budget of {} s leaves {} s for each of {} trainings": "{0} saniyelik sürede {2} eğitimin her birine {1} saniye "
    "kalıyor",
    "the same command goes on with what is trained": "yeniden başlatınca eğitilenlerle sürer",
    "give it --budget {}m or more": "{0} dakika ya da daha fazla verin",
    "{} does not list {}": "{0} listesinde {1} yok",
    "make the list again: pati clean": "listeyi yeniden hazırlayın",
    "expected at most {}": "en çok {0} beklenir",
}


def told(text: str, language: str) -> str:
    """A sentence of the library in the visitor's language; what is filled in may be one too."""
    if language == "en":
        return text
    for pattern, turkish in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return turkish.format(*(told(part, language) for part in match.groups()))
    return text


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The keys as patterns; those with more words of their own come first, as they say more."""
    keys = sorted(TURKISH, key=lambda key: len(key.replace("{}", "")), reverse=True)
    return [(re.compile("(.*?)".join(map(re.escape, key.split("{}"))), re.DOTALL), TURKISH[key]) for key in keys]
